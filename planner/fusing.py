"""Which chains of numeric nodes one graph computes on this machine; what was measured once is remembered.

Equal chains are measured once, whatever pipelines they are in: what names a chain is its operators and what
goes in, not its nodes.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.opening import Store
from planner.canonical import canonical_json, identity
from planner.execute import OperatorFrom
from planner.machine import machine_id
from planner.names import fused_name
from planner.numeric.record import Fused
from planner.plan import Plan

if TYPE_CHECKING:
    from planner.numeric.chains import Chain


_VERSION = 2
"""Of the graphs that chains become: what was measured on others is forgotten."""


class _Measured(msgspec.Struct, frozen=True):
    """What was found about one chain; graph "": its nodes one by one are as fast."""

    graph: str = ""
    tolerance: float = 0.0
    numpy_s: float = 0.0
    onnx_s: float = 0.0


def fused_chains(
    store: Store, plans: Iterable[Plan], operators: OperatorFrom, *, measuring: bool
) -> tuple[Fused, ...]:
    """The chains of these plans that are faster as a graph here; their graphs are in the store.

    measuring: False goes by what is remembered alone. Without the planner's extra nothing is fused.
    """
    try:
        from planner.numeric.chains import numeric_chains
        from planner.numeric.choose import fused_or_none
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "onnx":
            raise
        return ()
    known = _remembered(store)
    if not measuring and not any(found.graph for found in known.values()):
        return ()
    new: dict[str, _Measured] = {}

    def one(chain: "Chain") -> Fused | None:
        key = _key(chain)
        if key not in known and key not in new:
            if not measuring:
                return None
            made = fused_or_none(store, chain)
            new[key] = (
                _Measured(made.graph, made.tolerance, made.numpy_s, made.onnx_s) if made else _Measured()
            )
        found = new.get(key) or known[key]
        if not found.graph:
            return None
        if store.objects.missing([Digest.parse(found.graph)]):  # no binding had it for a while
            made_now = str(store.objects.put(chain.graph()))
            if made_now != found.graph:  # another version's, which nothing makes any more
                known.pop(key, None)
                return one(chain)
        return Fused(nodes=tuple(node.id for node in chain.nodes), **msgspec.structs.asdict(found))

    fused = []
    for chain in numeric_chains(plans, operators):
        whole = one(chain)
        parts = () if whole or len(chain.nodes) == 1 else chain.parts()
        fused += [found for found in (whole, *map(one, parts)) if found is not None]
    if new:
        digest = store.objects.put(canonical_json(msgspec.to_builtins(known | new)))
        store.names.set(fused_name(machine_id()), digest)
    return tuple(fused)


def _key(chain: "Chain") -> str:
    steps = [[o.name, o.version, msgspec.to_builtins(o.parameters())] for o in chain.operators]
    return identity({"version": _VERSION, "steps": steps, "given": msgspec.to_builtins(chain.given)})


def _remembered(store: Store) -> dict[str, _Measured]:
    digest = store.names.get(fused_name(machine_id()))
    if digest is None:
        return {}
    try:
        return msgspec.json.decode(store.objects.get(digest), type=dict[str, _Measured])
    except (msgspec.DecodeError, ObjectMissing):
        return {}
