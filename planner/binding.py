"""The binding: how the plans in a store are computed on one model of machine. Stages, pools, costs.

It refers to plans and changes none of them; it may be rebuilt at any time and has a digest of its own.
"""

from typing import Any, Literal

import msgspec

from object_store.digest import Digest
from object_store.opening import Store
from planner.canonical import canonical_json
from planner.errors import Unreadable

FORMAT = "lightbox.binding/1"

Pool = Literal["cpu", "gil"]
"""`cpu`: threads of one process; `gil`: processes of one thread, for kernels that hold the GIL."""


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a stage is expected to need; voxels are those of the source series.

    seconds = fixed_s + voxels * per_voxel_s; peak_bytes likewise, over all a run allocates, inputs excluded;
    output_bytes is what stays in shared memory until the consumers are done.
    """

    fixed_s: float
    per_voxel_s: float
    peak_bytes_per_voxel: float
    output_bytes_per_voxel: float
    measured: bool
    """False: a default, because this stage could not be measured on the phantom."""

    def seconds(self, voxels: int) -> float:
        return self.fixed_s + voxels * self.per_voxel_s

    def peak_bytes(self, voxels: int) -> int:
        return int(voxels * self.peak_bytes_per_voxel)


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
    """Stages are in an execution order valid for every plan; `plans` maps plan digest to pipeline name."""

    format: str = FORMAT
    machine: dict[str, Any]
    plans: dict[str, str]
    stages: tuple[Stage, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes whose digest names the binding."""
        return canonical_json(msgspec.to_builtins(self))

    def stages_of(self, plan: str) -> tuple[Stage, ...]:
        """The stages that compute this plan, in execution order. Empty if the plan is not bound here."""
        return tuple(stage for stage in self.stages if plan in stage.plans)


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
