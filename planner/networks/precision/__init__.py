"""Which engine and precision a family runs in: the fastest that passes the accuracy gate."""
