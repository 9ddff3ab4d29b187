"""The white box: every registered variant answers from one process, and what that costs in memory and time.

A program of its own, so that its memory is its own:
`python -m loadtest.benches.networks.family STORE NETWORKS`.
"""

import argparse
import gc
import json
import os
import random
import sys
import time
from pathlib import Path

from loadtest.benches.networks.dedicated import SIDE, image
from loadtest.processes import tree_pss_bytes
from object_store.opening import open_store
from planner.live import current_binding
from planner.resources import StoreResources


def main(arguments: list[str]) -> int:
    """JSON to stdout: memory above the empty process, seconds of each variant's first answer and, in
    turn with those, of later answers.

    stage_bytes: what it had grown by when one variant had answered; the rest is that of all others.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("networks", type=Path, help="a JSON list of digests")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of an image's rows and columns")
    options = parser.parse_args(arguments)
    networks: list[str] = json.loads(options.networks.read_text(encoding="utf-8"))
    import onnxruntime  # noqa: F401  # an empty server has it loaded

    fed = {"x0": image(side=options.side)}
    gc.collect()
    empty = tree_pss_bytes(os.getpid())
    bound = current_binding(open_store(options.store))  # the binding of so many networks is theirs too
    assert bound is not None
    resources = StoreResources(options.store, threads=1).under(bound[1])
    resources.network(networks[0]).run(fed)  # the family's stage is warm in a server that is ready
    gc.collect()
    stage = tree_pss_bytes(os.getpid()) - empty
    seconds: dict[str, list[float]] = {"first": [], "later": []}
    numbers = random.Random(0)  # noqa: S311
    seen = networks[:1]
    for network in numbers.sample(networks[1:], len(networks) - 1):
        for which, asked in (("first", network), ("later", numbers.choice(seen))):
            started = time.perf_counter()
            resources.network(asked).run(fed)
            seconds[which].append(time.perf_counter() - started)
        seen.append(network)
    gc.collect()
    grown = tree_pss_bytes(os.getpid()) - empty
    found = {"bytes": grown, "stage_bytes": stage, "empty_bytes": empty, "seconds": seconds}
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
