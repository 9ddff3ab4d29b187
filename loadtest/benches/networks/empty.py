"""What a stage worker of an empty server holds, and what loading the engine adds to it.

A program of its own, as what is loaded stays: `python -m loadtest.benches.networks.empty STORE`.
"""

import argparse
import gc
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from loadtest.processes import tree_pss_bytes


def main(arguments: list[str]) -> int:
    """JSON to stdout: `worker_bytes`, with a worker's modules and its resources, but no network; and
    `engine_bytes`, which the first network adds before it is loaded itself.

    A server imports onnxruntime where it is first run. Both are PSS of this one process: in a server the
    modules are shared by all its processes.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    options = parser.parse_args(arguments)
    import_module("serving.preload")  # what the server's fork server hands to its workers
    from serving.pools.ways import WorkerResources

    resources = WorkerResources(options.store)
    if "onnxruntime" in sys.modules:
        raise RuntimeError("an empty worker has an engine loaded: what it adds cannot be told any more")
    worker = _bytes()
    import_module("models.engines.onnxruntime")
    engine = _bytes() - worker
    del resources
    json.dump({"worker_bytes": worker, "engine_bytes": engine}, sys.stdout)
    return 0


def _bytes() -> int:
    gc.collect()
    return tree_pss_bytes(os.getpid())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
