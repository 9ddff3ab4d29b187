"""What two names stand for that are to be compared: plans, or networks; nothing is added to the store."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from models.errors import PipelineError
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.compile import make_plan
from planner.errors import UnknownNetwork, UnknownPipeline
from planner.live import compiled_plan
from planner.networks.compared import NetworkDifference, network_difference
from planner.networks.joint import networks_of
from planner.plan import Plan, stored_plan
from planner.reports.families import networks_named


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a plan, or (None) networks by their digests; several where the name was not clear.

    store: where its networks are: what was not compiled lies in a store of its own for that while.
    """

    plan: Plan | None
    networks: tuple[str, ...]
    store: Store


@dataclass(frozen=True, slots=True)
class Sides:
    """store: the one that names were looked up in."""

    store: Store
    before: Side
    after: Side

    @property
    def plans(self) -> tuple[Plan, Plan] | None:
        """None unless both are plans."""
        if self.before.plan is None or self.after.plan is None:
            return None
        return self.before.plan, self.after.plan

    @property
    def networks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What either stands for as a network: of a plan all that it runs."""
        return self.before.networks, self.after.networks

    def difference(self, before: str, after: str) -> NetworkDifference:
        """Between two networks of the sides, by their digests. Raises: StoreError."""
        ours, theirs = self._store_of(before, self.before), self._store_of(after, self.after)
        return network_difference(ours, before, after, theirs)

    def _store_of(self, network: str, side: Side) -> Store:
        """A file may name a network of the store by its digest, and brings none then."""
        return self.store if side.store.objects.missing([Digest.parse(network)]) else side.store


@contextmanager
def compared_sides(store: Store, before: str, after: str) -> Iterator[Sides]:
    """What the names stand for: a compiled pipeline, a bundled one, a YAML file, the name, digest or first
    digits of a network, the digest of a plan; the first of these that there is.

    Raises: PipelineError for a name of nothing, and as planner.compile.make_plan; StoreError.
    """
    with ExitStack() as held:
        sides = [_side(store, name, held) for name in (before, after)]
        yield Sides(store, *sides)


def _side(store: Store, name: str, held: ExitStack) -> Side:
    try:
        return _of(compiled_plan(store, name)[1], store)
    except UnknownPipeline:
        pass
    try:
        path = pipeline_path(name)
    except PipelineError as no_pipeline:
        return _network(store, name, no_pipeline)
    folder = Path(held.enter_context(TemporaryDirectory(prefix="lightbox-diff-")))
    scratch = held.enter_context(open_store(folder))
    return _of(make_plan(scratch, read_pipeline(path)), scratch)


def _network(store: Store, name: str, no_pipeline: PipelineError) -> Side:
    try:
        return Side(None, networks_named(store, name), store)
    except UnknownNetwork:
        if name.startswith("sha256:"):
            return _of(stored_plan(store, Digest.parse(name)), store)
    raise PipelineError(f"{no_pipeline}, nor a network of that name in the store") from no_pipeline


def _of(plan: Plan, store: Store) -> Side:
    networks = dict.fromkeys(network for node in plan.nodes for network in networks_of(node))
    return Side(plan, tuple(networks), store)
