"""The binding: how the plans in a store are computed on one model of machine. Stages, pools, costs.

It refers to plans and changes none of them; it may be rebuilt at any time and has a digest of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from object_store.digest import Digest
from object_store.opening import Store
from planner.canonical import identity
from planner.errors import Unreadable
from planner.networks.joint import Joint
from planner.networks.records import BoundNetwork
from planner.numeric.record import Fused
from planner.plan import Plan

FORMAT = "lightbox.binding/1"

IMAGES_PER_PART = 32
"""Images one run of a per-image stage works on: about 50 ms of decoding, little beside the hand-over."""

Pool = Literal["cpu", "gil"]
"""`cpu`: threads of one process; `gil`: processes of one thread, for kernels that hold the GIL."""


LITRES_PER_VOXEL = 1.6e-6
"""Of a thorax CT in thick slices (2.5 x 0.8 x 0.8 mm), where nobody says how large a series' voxels are."""


class TileCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a network's session takes, with one thread: fixed_s + tiles * per_tile_s.

    shape: of one tile as it is fed, without the batch; batch: tiles that the stage feeds at once.
    """

    shape: tuple[int, ...]
    batch: int
    fixed_s: float
    per_tile_s: float


class CostModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run of a stage is expected to need, on the device model that the binding is for.

    voxels are those of the source series, litres the space they fill: work on the source's grid grows with
    voxels, work on a grid of its own spacing with litres.
    seconds = fixed_s + voxels * per_voxel_s + litres * per_litre_s, of one thread, handing the results over
    included; peak_bytes likewise, over all that a run allocates, inputs excluded; output_bytes is what stays
    in shared memory until the consumers are done. A stage that works on parts of a series is costed as if
    all parts ran at once.
    """

    fixed_s: float
    per_voxel_s: float
    per_litre_s: float = 0.0
    peak_fixed_bytes: int = 0
    peak_bytes_per_voxel: float
    peak_bytes_per_litre: float = 0.0
    output_bytes_per_voxel: float
    all_cores: float | None = None
    """Seconds with all cores by seconds with one; None: not measured, as of stages without a network, which
    run in one thread whatever there is."""
    tiles: TileCost | None = None
    """Of a stage with a network."""
    measured: bool
    """False: a default, because this stage could not be measured on the phantom."""

    def seconds(self, voxels: int, litres: float | None = None) -> float:
        """With one thread. litres: of the series; default: voxels of LITRES_PER_VOXEL."""
        return self.fixed_s + voxels * self.per_voxel_s + _litres(voxels, litres) * self.per_litre_s

    def peak_bytes(self, voxels: int, litres: float | None = None) -> int:
        """Reserve so much; what a run may take beyond it: planner.measuring.fit.within_margin."""
        grown = voxels * self.peak_bytes_per_voxel + _litres(voxels, litres) * self.peak_bytes_per_litre
        return self.peak_fixed_bytes + int(grown)


def _litres(voxels: int, litres: float | None) -> float:
    return voxels * LITRES_PER_VOXEL if litres is None else litres


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that run back to back: the unit of scheduling and sharing.

    id is the identity of the nodes it computes, so the same work is the same stage in every binding.
    takes: node ids (or SOURCE) computed elsewhere; gives: those of its nodes that others or outputs read.
    """

    id: str
    name: str
    """For people: the steps it holds, as `decode` or `reorient+threshold`."""
    nodes: tuple[str, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    granularity: Literal["image", "volume", "tile"]
    pool: Pool
    per_job: bool
    plans: tuple[str, ...]
    """Digests of the plans that contain it, sorted."""
    cost: CostModel


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """Stages are in an execution order valid for every plan; `plans` maps plan digest to pipeline name.

    networks: by digest, how each opened network of these plans runs; one that is not here (or is opaque) runs
    from its own numbers in fp32. joint: nodes whose networks are computed together; fused: chains of numeric
    nodes that one graph computes.
    """

    format: str = FORMAT
    machine: dict[str, Any]
    plans: dict[str, str]
    stages: tuple[Stage, ...]
    networks: dict[str, BoundNetwork] = {}
    joint: tuple[Joint, ...] = ()
    fused: tuple[Fused, ...] = ()

    def to_bytes(self) -> bytes:
        """JSON with sorted keys: the bytes whose digest names the binding. (With thousands of plans it has
        megabytes, which planner.canonical would take ten times as long to write.)"""
        return msgspec.json.encode(self, order="sorted")

    def ways_of(self, networks: Iterable[str], nodes: Iterable[str]) -> str:
        """The identity of how these networks (digests) and nodes are computed here; "" if plainly.

        Equal ways, equal results, whatever else is bound.
        """
        asked = frozenset(nodes)
        ways = {
            name: [self.networks[name].variant, *(choice.build for choice in self.networks[name].choices)]
            for name in networks
            if name in self.networks
        }
        together = [msgspec.to_builtins(joint) for joint in self.joint if asked & set(joint.nodes)]
        fused = [chain.graph for chain in self.fused if asked & set(chain.nodes)]
        said = {"networks": ways, "joint": together, "fused": fused}
        return identity(said) if any(said.values()) else ""

    def stages_of(self, plan: str) -> tuple[Stage, ...]:
        """The stages that compute this plan, in execution order. Empty if the plan is not bound here."""
        return tuple(stage for stage in self.stages if plan in stage.plans)


Costing: TypeAlias = Callable[[Mapping[str, Plan], Binding], tuple[Stage, ...]]
"""The stages of a binding over these plans (by digest) with their costs."""


def stored_binding(store: Store, digest: Digest) -> Binding:
    """The binding of this digest. Raises: Unreadable, if it is none of this format; StoreError."""
    try:
        return read_binding(store.objects.get(digest))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(digest), str(error)) from error


def read_binding(data: bytes) -> Binding:
    """The binding in these bytes. Raises msgspec.DecodeError if they are none of this format."""
    binding = msgspec.json.decode(data, type=Binding)
    if binding.format != FORMAT:
        raise msgspec.ValidationError(f"format '{binding.format}' is not {FORMAT}")
    return binding
