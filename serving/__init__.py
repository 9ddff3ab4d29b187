"""Doing it: front doors, durable jobs, the scheduler, executor pools, results. Never compiles."""

__version__ = "0.1.0"
"""Also in pyproject.toml; a test holds them equal."""
