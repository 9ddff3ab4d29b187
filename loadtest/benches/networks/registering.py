"""Registers site variants of the bench's network in a store, one after the other, and says what each cost.

At the end all of them are bound, as compiling a pipeline with each would have done.
A program of its own: `python -m loadtest.benches.networks.registering STORE --count 250 [--folded]`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.benches.networks.unet import CHANNELS, Base
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.machine import machine_facts
from planner.names import BINDING
from planner.networks.bind import bound_networks
from planner.networks.families.admit import admitted
from planner.networks.families.verify import verify_variant
from planner.networks.reading.opening import open_network


def main(arguments: list[str]) -> int:
    """JSON to stdout: networks by digest, and for each what reading, registering and verifying it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folded", action="store_true")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    options = parser.parse_args(arguments)
    store, base, rows = open_store(options.store), Base(tuple(options.channels)), []
    with tempfile.TemporaryDirectory(prefix="bench-variants-") as folder:
        for variant in range(options.count):
            model = base.write(variant, Path(folder) / "model.onnx", folded=options.folded)
            rows.append(_registered(store, model))
    started = time.perf_counter()
    _bind(store, [row["network"] for row in rows])
    bound_s = time.perf_counter() - started
    json.dump({"variants": rows, "bound_s": bound_s}, sys.stdout)
    return 0


def _bind(store: Store, networks: Sequence[str]) -> None:
    """A binding of these networks alone: no plan has them."""
    bound = bound_networks(store, dict.fromkeys(networks, ()))
    if lacking := set(networks) - bound.keys():
        raise RuntimeError(f"{len(lacking)} networks have no place in the binding")
    binding = Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)
    store.names.set(BINDING, store.objects.put(binding.to_bytes()))


def _registered(store: Store, model: Path) -> dict[str, Any]:
    started = time.perf_counter()
    model.read_bytes()
    read_s = time.perf_counter() - started
    started = time.perf_counter()
    registration = admitted(store, model, open_network(model))
    register_s = time.perf_counter() - started
    started = time.perf_counter()
    verification = verify_variant(store, registration.network)
    return {
        "network": str(registration.network),
        "new_base": registration.new_base,
        "read_s": read_s,
        "register_s": register_s,
        "verify_s": time.perf_counter() - started,
        "largest_difference": verification.largest_difference,
        "verified": verification.passed,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
