"""Which networks of a plan are computed together: over the same tiles, what they share only once.

How it is wired:

* When a binding is made: `find_joint(plans, shared_parts(store, networks))` (planner.networks.bind)
  gives `Binding.joint`; `cut_stages(plans, operators, joint)` then puts the nodes of one Joint into one
  stage.
* The Resources of a binding (`StoreResources.under`) are JointResources: `joint` is `binding.joint` and
  `networks(graphs)` is `JointSession(joint.parts, session_of)` from planner.networks.running.together for
  `joint_of(binding.joint, graphs)`, or None where that is None; session_of(build digest) is the session that
  StoreResources has of a Build, kept like all others.
* run_stage asks the context's resources for `joint` and computes the nodes of each by one call; a Joint of
  which only some nodes are among the stage's is left alone. Nothing has to be handed to it.
* For garbage collection: `Joint.builds()` are referred to by the binding.

Imported by workers, so nothing heavy is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from planner.canonical import canonical_json
from planner.numeric.record import Fused
from planner.plan import Node, Plan

if TYPE_CHECKING:
    from models.operators.network_runs import TogetherSession

WORDS = ("network", "network_ensemble")
"""The operators that run networks over a volume."""

MOST_CLASSES = 32
"""Networks that share no part save little together (tiles and padding), and hold all their probability maps
at once: only up to so many segments (a guess)."""

_OWN = frozenset({"graph", "variant", "output", "activation", "segments", "others"})
"""Parameters in which networks may differ that are computed together. All others say how to walk a volume."""


class PartRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one part. takes, gives: names of values, in the order of the graph's ports x0.., y0..

    build: digest of the Build. The network's own inputs are the values `x0`, `x1` ...
    """

    build: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


class JointParts(msgspec.Struct, frozen=True, kw_only=True):
    """Networks taken apart. runs: in an order of computation; outputs: the values each network gives.

    share: expected time of these runs, by that of the networks one by one, both in fp32 on onnxruntime.
    held_once_bytes: weights of what networks have in common at their ends, beyond the first network's.
    """

    runs: tuple[PartRun, ...]
    outputs: dict[str, tuple[str, ...]]
    share: float
    held_once_bytes: int = 0


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes over one input, walked in one way. networks: digests, sorted, of all that these nodes run.

    parts: None where the networks have nothing in common but the tiles.
    """

    nodes: tuple[str, ...]
    networks: tuple[str, ...]
    parts: JointParts | None = None

    def builds(self) -> tuple[str, ...]:
        """Digests of the builds it runs, each once, sorted."""
        return tuple(sorted({run.build for run in self.parts.runs})) if self.parts else ()


@runtime_checkable
class JointResources(Protocol):
    """Resources under a binding: what kernels (models.operators.network_runs) and run_stage ask about it."""

    @property
    def joint(self) -> Sequence[Joint]:
        """The nodes that are computed together."""
        ...

    @property
    def fused(self) -> Sequence[Fused]:
        """Chains of numeric nodes that one graph computes."""
        ...

    def networks(self, graphs: Sequence[str]) -> "TogetherSession | None":
        """The session for exactly these networks, in any order; None if they share no parts."""
        ...


PartsOf: TypeAlias = Callable[[tuple[str, ...], tuple[int, ...]], JointParts | None]
"""From sorted digests of networks and a shape of what they are fed ([1, 1, ...], for the costs): their parts,
or None where nothing is worth sharing."""


def no_parts(networks: tuple[str, ...], fed: tuple[int, ...]) -> JointParts | None:
    """A PartsOf that shares nothing."""
    return None


def find_joint(plans: Mapping[str, Plan], parts: PartsOf = no_parts) -> tuple[Joint, ...]:
    """Nodes to compute together, in a fixed order; nodes join only if the same plans have them.

    plans: by digest. The result does not depend on their order.
    """
    found = []
    for nodes in _alike(plans):
        networks = tuple(sorted({graph for node in nodes for graph in networks_of(node)}))
        fits = len(networks) > 1 and all(not variant for node in nodes for _, variant in members_of(node))
        shared = parts(networks, fed_shape(nodes[0])) if fits else None
        if shared is not None or (len(nodes) > 1 and _classes(nodes) <= MOST_CLASSES):
            found.append(Joint(nodes=tuple(node.id for node in nodes), networks=networks, parts=shared))
    return tuple(sorted(found, key=lambda joint: joint.nodes))


def joint_of(joints: Iterable[Joint], graphs: Iterable[str]) -> Joint | None:
    """The one with parts for exactly these networks, in any order."""
    wanted = tuple(sorted(set(graphs)))
    return next((joint for joint in joints if joint.parts and joint.networks == wanted), None)


def members_of(node: Node) -> tuple[tuple[str, str], ...]:
    """(graph, variant) of every network that the node runs; none if it runs none."""
    if node.operator not in WORDS:
        return ()
    first = (str(node.parameters["graph"]), str(node.parameters.get("variant", "")))
    return (first, *((str(graph), str(variant)) for graph, variant in node.parameters.get("others", ())))


def networks_of(node: Node) -> tuple[str, ...]:
    """Digests of every network that the node runs."""
    return tuple(graph for graph, _ in members_of(node))


def fed_shape(node: Node) -> tuple[int, ...]:
    """A shape that the node feeds its networks: the tile, or a usual size where any volume is fed whole."""
    mode, patch = node.parameters.get("mode", "whole"), node.parameters.get("patch")
    if patch:
        return (1, 1, *(int(side) for side in patch))
    return (1, 1, 256, 256) if mode == "slices" else (1, 1, 128, 128, 128)


def _alike(plans: Mapping[str, Plan]) -> Iterator[Sequence[Node]]:
    """Nodes with networks by what they read, how they walk it, and which plans have them."""
    nodes: dict[str, Node] = {}
    users: dict[str, list[str]] = {}
    for digest in sorted(plans):
        for node in plans[digest].nodes:
            if node.operator in WORDS:
                nodes.setdefault(node.id, node)
                users.setdefault(node.id, []).append(digest)
    groups: dict[tuple[Any, ...], list[Node]] = {}
    for node_id in sorted(nodes):
        node = nodes[node_id]
        walk = {key: value for key, value in node.parameters.items() if key not in _OWN}
        groups.setdefault((node.inputs, canonical_json(walk), *users[node_id]), []).append(node)
    yield from groups.values()


def _classes(nodes: Sequence[Node]) -> int:
    return sum(len(node.parameters["segments"]) for node in nodes)
