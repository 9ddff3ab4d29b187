"""At promotion: does a network compute the same from how it is kept as from the numbers it was imported with?

Filters that were unfolded, or put together again from a low-rank difference, differ from the imported ones by
rounding. Here outputs decide. What passes lets its imported numbers go; what does not is kept in full. Both
run in a process of their own, with bounds on memory and time: a network that joined a family was not run yet.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import NetworkSession
from object_store.digest import Digest
from object_store.errors import NameUnknown, ObjectCorrupt, ObjectMissing
from object_store.local import LocalStore
from object_store.opening import Store
from planner.names import exact_name, variant_name
from planner.networks.apart import NotBorne, apart
from planner.networks.bind import build_in_fp32
from planner.networks.families.bases import put_base
from planner.networks.keeping import NetworkReader, large_tensors, raw_bytes, record_objects
from planner.networks.reading.probing import SIDES, drawn, shapes
from planner.networks.records import Variant, Verification
from planner.networks.structure import Opened, Structure
from planner.turn import turn

log = logging.getLogger(__name__)

Array = NDArray[Any]
Inputs = Mapping[str, Array]

TOLERANCE = 1e-5
"""Of any output value, relative to the largest magnitude of that output."""

RUNS = 3
"""Random inputs, each of another size where the network leaves it free."""


def verify_variant(
    store: Store, network: Digest, tolerance: float = TOLERANCE, inputs: Sequence[Inputs] = ()
) -> Verification:
    """Compare outputs (onnxruntime, fp32) from imported numbers with those of its family's build, which is
    what is served; record what was found.

    inputs: more to compare on, by the structure's names (`x0`). If it passes, nothing refers to the imported
    numbers any more. If it does not, or if no input could be run, the network leaves its family and is kept
    in full. A network that `needs_verifying` does not name passes without a run.
    Takes a `turn` of the store at the end, so not to be called within one.
    Raises: ObjectMissing if the network is not registered; StoreError.
    """
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(network)
    if variant is None:
        raise ObjectMissing(network)
    if needs_verifying(variant):
        imported = _imported(reader, network)
        member = _member(store, variant)
        try:
            found = apart(_compared_in_store, store.objects.root, imported, member, tolerance, list(inputs))
        except NotBorne as failed:
            log.warning("a network cannot be run to be verified: %s", failed)
            found = Verification(inputs=0, largest_difference=0.0, tolerance=tolerance, passed=False)
        with turn(store):
            variant = _recorded(store, reader, network, imported, found)
    if variant.verified is None or variant.verified.passed:
        _let_go(store, network)
    return variant.verified or Verification(
        inputs=0, largest_difference=0.0, tolerance=tolerance, passed=True
    )


def needs_verifying(variant: Variant) -> bool:
    """Whether it is kept with rounding, or has large tensors of its own, and was not verified yet."""
    return variant.verified is None and (not variant.exact or bool(variant.own_large))


def compared(
    opened: Opened, served: Callable[[], NetworkSession], tolerance: float, inputs: Sequence[Inputs]
) -> Verification:
    """Outputs of the network as opened against those of the session that is to stand for it.

    A run of which an output holds no finite number says nothing, and is not counted.
    """
    try:
        exact, other = _session(opened.structure, opened.tensors), served()
    except KernelError as error:
        log.warning("a network cannot be run to be verified: %s", error)
        return Verification(inputs=0, largest_difference=0.0, tolerance=tolerance, passed=False)
    runs, largest = 0, 0.0
    try:
        for feeds, expected in _runs(exact, opened.structure, inputs):
            runs += all(np.isfinite(output).any() for output in expected)
            largest = max(largest, largest_difference(other.run(feeds), expected))
    except KernelError as error:
        log.warning("a network does not take from its family what it takes by itself: %s", error)
        largest = float("inf")
    finite = min(largest, float(np.finfo(np.float64).max))  # a record holds no infinity
    return Verification(
        inputs=runs, largest_difference=finite, tolerance=tolerance, passed=runs > 0 and largest <= tolerance
    )


def largest_difference(outputs: Sequence[Array], expected: Sequence[Array]) -> float:
    """Relative to the largest magnitude of each output; infinite where only one of the two is no number."""
    worst = 0.0
    for output, wanted in zip(outputs, expected, strict=True):
        if not np.array_equal(np.isfinite(output), np.isfinite(wanted)):
            return float("inf")
        numbers = np.isfinite(wanted)
        apart = np.abs(output[numbers].astype(np.float64) - wanted[numbers]).max(initial=0)
        largest = np.abs(wanted[numbers].astype(np.float64)).max(initial=0)
        if apart:
            worst = max(worst, float(apart / largest) if largest else float("inf"))
    return worst


def _imported(reader: NetworkReader, network: Digest) -> Opened:
    """The network with its imported numbers, which are hashed. Raises: ObjectCorrupt if they are damaged."""
    opened = Opened(reader.structure(network), reader.tensors(network), (), ())
    weights = reader.weights(network)
    for name, array in large_tensors(opened).items():
        if Digest.of(raw_bytes(array)) != weights[name]:
            raise ObjectCorrupt(weights[name])
    return opened


def _recorded(
    store: Store, reader: NetworkReader, network: Digest, imported: Opened, found: Verification
) -> Variant:
    now = reader.variant(network)
    if now is None:
        raise ObjectMissing(network)
    if not needs_verifying(now):  # another process was quicker
        return now
    if found.passed:
        verified = msgspec.structs.replace(now, verified=found)
        store.names.set(variant_name(network.sha256), store.objects.put(verified.to_bytes()))
        return verified
    weights = reader.weights(network)
    _, objects = record_objects(imported, weights)
    tensors = {name: np.ascontiguousarray(array) for name, array in imported.tensors.items()}
    with ThreadPoolExecutor(4) as threads:
        put_base(store, imported.structure, tensors, weights, objects, network, threads, verified=found)
    _let_go(store, network)
    return msgspec.structs.replace(now, verified=found)


def _let_go(store: Store, network: Digest) -> None:
    try:
        store.names.delete(exact_name(network.sha256))
    except NameUnknown:
        return


def _member(store: Store, variant: Variant) -> tuple[str, str, str]:
    """What a binding runs it from: the build of its family, the network, its variant; all in the store."""
    from planner.networks.families.members import families

    reader = NetworkReader(store.objects, store.names)
    structure = Digest.parse(reader.record(variant.network).structure).sha256
    family = families(store, structure)[variant.family]
    build = build_in_fp32(store, Digest.of(family.to_bytes()), family, variant)
    return str(build), variant.network, str(store.objects.put(variant.to_bytes()))


def _compared_in_store(
    root: Path, imported: Opened, member: tuple[str, str, str], tolerance: float, inputs: Sequence[Inputs]
) -> Verification:
    """Run apart. Raises: StoreError."""
    from planner.networks.running.load import NetworkLoader

    return compared(imported, lambda: NetworkLoader(LocalStore(root)).member(*member), tolerance, inputs)


def _session(structure: Structure, tensors: Mapping[str, Array]) -> Any:
    from models.engines.onnxruntime import OnnxSession
    from planner.networks.building.build import plain

    graph = plain(structure, tensors)
    return OnnxSession(graph.graph, graph.large)


def _runs(
    session: Any, structure: Structure, inputs: Sequence[Inputs]
) -> Iterator[tuple[Inputs, Sequence[Array]]]:
    """Inputs that the network takes, with its outputs: those given, and RUNS random ones."""
    for feeds in inputs:
        yield feeds, session.run(feeds)
    yield from islice(_random_runs(session, structure), RUNS)


def _random_runs(session: Any, structure: Structure) -> Iterator[tuple[Inputs, Sequence[Array]]]:
    seen = set()
    for number, side in enumerate(SIDES):
        sized = shapes(structure.inputs, (side,))
        if sized in seen and number >= RUNS:  # nothing is free: other numbers will do for a few runs
            return
        seen.add(sized)
        random = np.random.default_rng(number)
        feeds = {
            port.name: drawn(random, port.dtype, shape)
            for port, shape in zip(structure.inputs, sized, strict=True)
        }
        try:
            outputs = session.run(feeds)
        except KernelError:  # a size that this network does not take
            continue
        if all(np.isfinite(output).any() for output in outputs):
            yield feeds, outputs
