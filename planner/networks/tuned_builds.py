"""What the precision search chose, as builds in the store: the family's, or one network's own."""

from collections.abc import Mapping

from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.building.build import put_build
from planner.networks.keeping import NetworkReader
from planner.networks.precision.candidates import Choice, PrecisionPlan
from planner.networks.records import Family
from planner.networks.tuned import Way


def stored_ways(
    store: Store, planned: PrecisionPlan, family: Family, network: str, alone: bool, reader: NetworkReader
) -> tuple[Way, ...]:
    """The choices as builds in the store, fastest first; none that is plain fp32 on onnxruntime.

    alone: the choices were made for this network and not for its family.
    """
    weights = {} if alone else reader.weights(family.base)
    ways = {}
    for choice in planned.choices.values():
        if _worth_keeping(choice):
            way = _alone(store, choice, network) if alone else _shared(store, choice, family, weights)
            ways[way.build] = way
    if planned.folded is not None:
        way = _alone(store, planned.folded, network)
        ways[way.build] = way
    return tuple(sorted(ways.values(), key=lambda way: (-way.speedup, way.build)))


def _worth_keeping(choice: Choice) -> bool:
    """Faster than fp32 on onnxruntime, which every network can run in."""
    tried = choice.tried
    plain = (tried.engine, tried.precision) == ("onnxruntime", "fp32")
    return not plain and bool(tried.rounds_s) and tried.speed_up > 1


def _shared(store: Store, choice: Choice, family: Family, weights: Mapping[str, Digest]) -> Way:
    """A build that the family shares, in the store. weights: of the base."""
    return _way(choice, _put(store, choice, weights), lifted=family.lifted)


def _alone(store: Store, choice: Choice, network: str) -> Way:
    """A build of this network's own: its filters are no other's, whatever they are called."""
    return _way(choice, _put(store, choice, {}, network), network=network)


def _put(store: Store, choice: Choice, weights: Mapping[str, Digest], network: str = "") -> Digest:
    return put_build(
        store,
        choice.stage,
        weights,
        engine=choice.tried.engine,
        precision=choice.tried.precision,
        hints=choice.hints,
        network=network,
    )


def _way(choice: Choice, build: Digest, *, lifted: tuple[str, ...] = (), network: str = "") -> Way:
    tried = choice.tried
    verdicts = [verdict for verdict in (tried.calibration, tried.held_out) if verdict]
    return Way(
        build=str(build),
        engine=tried.engine,
        precision=tried.precision,
        seconds=min(tried.rounds_s),
        baseline_seconds=min(tried.baseline_rounds_s),
        figures={
            "least_dice": min(verdict.least_dice for verdict in verdicts),
            "mean_dice": min(verdict.mean_dice for verdict in verdicts),
            "volume_change": max(verdict.volume_change for verdict in verdicts),
        },
        lifted=lifted,
        network=network,
    )
