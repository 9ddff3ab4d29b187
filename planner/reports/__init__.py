"""What the planner made, told as values: stages, families, what a store holds, what differs."""
