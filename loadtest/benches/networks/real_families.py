"""Real networks through the planning path: what they share in the store, and that they compute the same.

Every network is registered, verified, bound and run as a worker runs it, in fp32; the other side is plain
onnxruntime on the file as published. Inputs are random ones of several sizes and pieces of real images.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from loadtest.benches.figures import Bar, Figure, Findings, at_least, at_most, figure
from loadtest.benches.networks.dedicated import dedicated_session
from loadtest.benches.real_networks import BUNDLED, DATA, NETWORKS, SITES, RealNetwork, networks
from loadtest.benches.say import Say
from models.operators.base import NetworkSession
from models.pipeline_file import ZOO
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.machine import machine_facts
from planner.networks.bind import bound_networks
from planner.networks.families.known import KnownNetwork, known_networks
from planner.networks.families.register import register
from planner.networks.families.verify import largest_difference, verify_variant
from planner.networks.reading.opening import open_network
from planner.reports.stats import StoreStats, store_stats
from planner.resources import StoreResources

Array = NDArray[np.float32]

QUICK = (BUNDLED, "model5_gw_ae", "model_11ch_ACR", "model_11ch_ARC")
RANDOM, REAL = 10, 10
INPUTS = 20
OUTPUTS_WITHIN = 1e-5
_CUBES = (24, 32, 38)
_PLANES = (64, 96, 128)
"""Sides of random inputs; of real ones it is the largest, for slices the whole image."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One network's outputs against those of its file, over `inputs` inputs."""

    inputs: int
    largest_difference: float


def require_data() -> None:
    """Raises: FileNotFoundError without the real data."""
    if not DATA.is_dir():
        raise FileNotFoundError("the real networks and images in ../shared/data are not there")


def run(quick: bool, say: Say) -> Findings:
    """All real networks, or a few. Raises: FileNotFoundError without the real data."""
    require_data()
    names = QUICK if quick else NETWORKS
    with (
        tempfile.TemporaryDirectory(prefix="bench-real-families-") as folder,
        open_store(Path(folder) / "store") as store,
    ):
        return _measured(store, Path(folder), names, say)


def _measured(store: Store, folder: Path, names: Sequence[str], say: Say) -> Findings:
    files: dict[str, Path] = {}
    digests: dict[str, str] = {}
    inputs: dict[str, list[Array]] = {}
    for network in networks(tuple(names)):
        say(f"registering {network.name}")
        for name, file in _files(network.name, folder):
            files[name] = file
            opened = network.opened if name == network.name else open_network(file)
            registered = register(store, opened).network
            verify_variant(store, registered)
            digests[name], inputs[name] = str(registered), list(inputs_of(network))
    bound = bound_networks(store, dict.fromkeys(digests.values(), ()))
    binding = Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)
    resources = StoreResources(store.objects.root, threads=2).under(binding)
    found = {}
    for name, file in files.items():
        found[name] = compared(resources.network(digests[name]), file, inputs[name])
        say(f"{name}: {found[name].largest_difference:.2g} apart over {found[name].inputs} inputs")
    return findings(digests, files, found, store_stats(store), known_networks(store))


def inputs_of(network: RealNetwork) -> Iterator[Array]:
    """float32[1, 1, ...]: RANDOM of numbers, REAL pieces of both halves of the real image.

    Random numbers are normal with the image's mean and deviation: on others some networks give nearly nought
    everywhere, of which nothing is a large part.
    """
    (free,) = network.opened.structure.inputs
    sides = _CUBES if len(free.shape) == 5 else _PLANES
    image = network.calibration.feeds[0]["x0"]
    for number in range(RANDOM):
        side = sides[number % len(sides)]
        shape = (1, 1, *[side] * (len(free.shape) - 2))
        yield np.random.default_rng(number).normal(image.mean(), image.std(), shape).astype(np.float32)
    halves = (network.calibration, network.held_out)
    for number in range(REAL):
        feeds = halves[number % 2].feeds
        yield _piece(feeds[number // 2 % len(feeds)]["x0"], number // 2)


def compared(ours: NetworkSession, file: Path, inputs: Sequence[Array]) -> Compared:
    """Outputs of a planned network against those of plain onnxruntime on its file."""
    theirs = dedicated_session(file, tuned=True, threads=2)
    fed = theirs.get_inputs()[0].name
    apart = [largest_difference(ours.run({"x0": one}), theirs.run(None, {fed: one})) for one in inputs]
    return Compared(len(apart), max(apart))


def findings(
    digests: Mapping[str, str],
    files: Mapping[str, Path],
    found: Mapping[str, Compared],
    stats: StoreStats,
    known: Sequence[KnownNetwork],
) -> Findings:
    """Bytes of each network, how far its outputs are apart, and who is of whose family."""
    names = {digest: name for name, digest in digests.items()}
    by_digest = {network.network: network for network in known}
    adds = {kept.network: kept.adds_bytes for kept in stats.networks}
    figures: dict[str, Figure] = {
        "bytes of all networks": figure(
            [stats.physical_bytes / 1e6],
            [sum(file.stat().st_size for file in files.values()) / 1e6],
            unit="MB",
            better="lower",
            note=f"baseline: their files; {stats.shared_bytes / 1e6:.2f} MB are shared by several",
        )
    }
    notes = [
        f"Real networks: fp32, two threads, {RANDOM} random inputs each and {REAL} pieces of real images; "
        "what a network adds are objects that are there for it alone. How labels compare where another "
        "precision was chosen is told by bench precision; the tolerance there is the gate's."
    ]
    for name, digest in digests.items():
        network = by_digest[digest]
        figures[f"{name}, what it adds"] = figure(
            [adds[digest] / 1e3], [files[name].stat().st_size / 1e3], unit="kB", better="lower"
        )
        notes.append(f"{name}: {_place(network, names)}; outputs {found[name].largest_difference:.2g} apart.")
    worst = max(found, key=lambda name: found[name].largest_difference)
    sites = {by_digest[digest].family for name, digest in digests.items() if name.startswith(BUNDLED)}
    bars: list[Bar] = [
        Bar(
            name="outputs apart from plain onnxruntime on the file, of the largest magnitude, any network",
            required=f"<= {OUTPUTS_WITHIN:g}",
            measured=f"{found[worst].largest_difference:.2g} ({worst})",
            holds=found[worst].largest_difference <= OUTPUTS_WITHIN,
        ),
        at_least("inputs of each network", min(one.inputs for one in found.values()), INPUTS, "inputs"),
        at_most(f"families of {BUNDLED} and its variants", len(sites), 1, "families"),
    ]
    return Findings(figures=figures, bars=bars, notes=notes)


def _place(network: KnownNetwork, names: Mapping[str, str]) -> str:
    if network.family == network.network:
        return "a base of its own"
    kept = ", ".join(f"{count} tensors {how}" for how, count in network.kept.items())
    return f"a variant of {names[network.family]}, {kept or 'small tensors alone differ'}"


def _files(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The network's own file; of the bundled one also a file for each of its variants."""
    if name != BUNDLED:
        yield name, DATA / "models" / name / "model.onnx"
        return
    yield name, ZOO / f"{name}.onnx"
    for site in SITES:
        model = onnx.load(ZOO / f"{name}.onnx")
        with np.load(ZOO / f"{name}-{site}.npz") as own:
            for tensor in model.graph.initializer:
                if tensor.name in own.files:
                    tensor.CopyFrom(numpy_helper.from_array(own[tensor.name], tensor.name))
        path = folder / f"{name}-{site}.onnx"
        path.write_bytes(model.SerializeToString())
        yield path.stem, path


def _piece(image: NDArray[Any], number: int) -> Array:
    """A slice of a batch of slices; of a volume a cube, each further along a diagonal around its middle."""
    if image.ndim == 4:
        return np.ascontiguousarray(image[number % len(image)][None])
    side = _CUBES[-1]
    pieces = REAL // 2
    starts = [(size - side) * (3 + number % pieces) // (pieces + 5) for size in image.shape[2:]]
    cube = tuple(slice(start, start + side) for start in starts)
    return np.ascontiguousarray(image[(slice(None), slice(None), *cube)])
