"""Where stages run: worker processes, and values that pass between them in shared memory."""
