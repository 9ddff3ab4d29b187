"""What the planner made, drawn: plans and families of networks as SVG text."""
