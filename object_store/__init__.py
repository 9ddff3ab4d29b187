"""Where it is kept: immutable bytes named by their digest, names and tags on top. Knows nothing of imaging."""
