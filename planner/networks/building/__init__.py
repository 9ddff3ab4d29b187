"""A family compiled into one stage: what differs lifted to inputs, the rest constant."""
