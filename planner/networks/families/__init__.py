"""Which networks are variants of one another, and how each is kept against its base."""
