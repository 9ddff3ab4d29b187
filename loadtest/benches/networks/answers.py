"""Every variant's answer out of its family's stage against that of its own file in plain onnxruntime.

A program of its own: `python -m loadtest.benches.networks.answers STORE NETWORKS [--folded]`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from loadtest.benches.networks.dedicated import dedicated_session, image
from loadtest.benches.networks.unet import CHANNELS, INPUT, Base
from object_store.opening import open_store
from planner.live import current_binding
from planner.networks.families.verify import largest_difference
from planner.resources import StoreResources

SIDE = 64
"""Pixels of an image's rows and columns: variants differ in numbers of channels, which a small one shows."""


def main(arguments: list[str]) -> int:
    """JSON to stdout: `differences` of the variants in their order, each on an image of its own, of the
    largest magnitude of its file's output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("networks", type=Path, help="a JSON list of digests, in the order of variants")
    parser.add_argument("--folded", action="store_true")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    options = parser.parse_args(arguments)
    networks: list[str] = json.loads(options.networks.read_text(encoding="utf-8"))
    base, differences = Base(tuple(options.channels)), []
    with open_store(options.store) as store, tempfile.TemporaryDirectory(prefix="bench-answers-") as folder:
        bound = current_binding(store)
        assert bound is not None
        resources = StoreResources(options.store, threads=1).under(bound[1])
        for variant, network in enumerate(networks):
            file = base.write(variant, Path(folder) / "model.onnx", folded=options.folded)
            picture = image(variant, SIDE)
            theirs = dedicated_session(file, tuned=False, threads=1).run(None, {INPUT: picture})
            ours = resources.network(network).run({"x0": picture})
            differences.append(largest_difference(ours, theirs))
    json.dump({"differences": differences}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
