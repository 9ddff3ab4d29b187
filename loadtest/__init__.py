"""A client like any other: senders, load and benchmarks. Imports nothing of the server."""
