"""A variant's answers out of its family's stage against those of its own dedicated session, turn by turn.

A program of its own: `python -m loadtest.benches.networks.latency STORE NETWORK MODEL`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.benches.networks.dedicated import SIDE, dedicated_session, image
from loadtest.benches.networks.unet import INPUT
from object_store.opening import open_store
from planner.live import current_binding
from planner.resources import StoreResources

THREADS = 1


def main(arguments: list[str]) -> int:
    """JSON to stdout: seconds of both sides, in the order ABAB, and how far their outputs are apart."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("network")
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of an image's rows and columns")
    options = parser.parse_args(arguments)
    bound = current_binding(open_store(options.store))
    assert bound is not None
    ours = StoreResources(options.store, threads=THREADS).under(bound[1]).network(options.network)
    theirs = dedicated_session(options.model, tuned=True, threads=THREADS)
    picture = image(1, options.side)
    sides: dict[str, Callable[[], Any]] = {
        "lightbox": lambda: ours.run({"x0": picture})[0],
        "dedicated": lambda: theirs.run(None, {INPUT: picture})[0],
    }
    answers = {side: run() for side, run in sides.items()}
    reference = answers["dedicated"]
    difference = float(np.abs(answers["lightbox"] - reference).max() / np.abs(reference).max())
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - started)
    json.dump({"seconds": seconds, "difference": difference}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
