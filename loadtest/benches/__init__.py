"""Benchmarks, each in its own file: both sides in turn in one run; nobody imports them."""
