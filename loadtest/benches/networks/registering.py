"""Registers site variants of the bench's network in a store, one after the other, and says what each cost.

At the end all of them are bound, as compiling a pipeline with each would have done. Before that, further
variants are registered in turn in two copies of the store, of its first ten variants and of all: the load of
the machine moves both alike, so that what is left between them comes from how many the store holds.
A program of its own: `python -m loadtest.benches.networks.registering STORE --count 250 [--folded]`.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from loadtest.benches.networks.unet import CHANNELS, Base
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.machine import machine_facts
from planner.names import BINDING
from planner.networks.bind import bound_networks
from planner.networks.families.admit import admitted
from planner.networks.families.register import Registration
from planner.networks.families.verify import verify_variant
from planner.networks.reading.opening import open_network

FEW = 10
"""Variants in the smaller of the two stores that are compared."""

TURNS = 15


def main(arguments: list[str]) -> int:
    """JSON to stdout: networks by digest, and for each what reading, registering and verifying it took.

    further: seconds of registering beyond reading, of the same further variants where few are known and where
    all are.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folded", action="store_true")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    options = parser.parse_args(arguments)
    base, rows = Base(tuple(options.channels)), []
    with tempfile.TemporaryDirectory(prefix="bench-variants-") as name:
        folder = Path(name)

        def written(variant: int) -> Path:
            return base.write(variant, folder / "model.onnx", folded=options.folded)

        with open_store(options.store) as store:
            rows += [_registered(store, written(variant)) for variant in range(min(FEW, options.count))]
        shutil.copytree(options.store, folder / "few")
        with open_store(options.store) as store:
            rows += [_registered(store, written(variant)) for variant in range(len(rows), options.count)]
        shutil.copytree(options.store, folder / "all")
        models = (written(variant) for variant in range(options.count, options.count + TURNS))
        further = _in_turn(folder / "few", folder / "all", models)
    with open_store(options.store) as store:
        started = time.perf_counter()
        _bind(store, [row["network"] for row in rows])
        bound_s = time.perf_counter() - started
    json.dump({"variants": rows, "further": further, "bound_s": bound_s}, sys.stdout)
    return 0


def _in_turn(few: Path, all_: Path, models: Iterable[Path]) -> dict[str, list[float]]:
    """Each model is registered in both stores, first in the one or in the other by turns."""
    seconds: dict[str, list[float]] = {"few": [], "all": []}
    with open_store(few) as smaller, open_store(all_) as larger:
        sides = [("few", smaller), ("all", larger)]
        for model in models:
            for side, store in sides:
                _, read_s, register_s, _ = _timed(store, model)
                seconds[side].append(register_s - read_s)
            sides.reverse()
    return seconds


def _bind(store: Store, networks: Sequence[str]) -> None:
    """A binding of these networks alone: no plan has them."""
    bound = bound_networks(store, dict.fromkeys(networks, ()))
    if lacking := set(networks) - bound.keys():
        raise RuntimeError(f"{len(lacking)} networks have no place in the binding")
    binding = Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)
    store.names.set(BINDING, store.objects.put(binding.to_bytes()))


def _timed(store: Store, model: Path) -> tuple[Registration, float, float, float]:
    """Seconds of reading the file by itself; of opening and registering it, which reads it again; and of the
    processor (all threads) for the latter."""
    started = time.perf_counter()
    model.read_bytes()
    read_s = time.perf_counter() - started
    started, worked_s = time.perf_counter(), time.process_time()
    registration = admitted(store, model, open_network(model))
    return registration, read_s, time.perf_counter() - started, time.process_time() - worked_s


def _registered(store: Store, model: Path) -> dict[str, Any]:
    registration, read_s, register_s, processor_s = _timed(store, model)
    started = time.perf_counter()
    verification = verify_variant(store, registration.network)
    return {
        "network": str(registration.network),
        "new_base": registration.new_base,
        "read_s": read_s,
        "register_s": register_s,
        "processor_s": processor_s,
        "verify_s": time.perf_counter() - started,
        "largest_difference": verification.largest_difference,
        "verified": verification.passed,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
