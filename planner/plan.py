"""The plan: what one pipeline computes, as operators with Merkle identities. No device, no measurement.

Its canonical JSON is its identity: the same pipeline gives the same bytes on any machine and in any order
of compilation.
"""

from typing import Any

import msgspec

from object_store.digest import Digest
from object_store.opening import Store
from planner.canonical import canonical_json, identity
from planner.errors import Unreadable

SOURCE = "source"
"""The id of the one node nobody computes: the series."""

FORMAT = "lightbox.plan/1"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One operator applied to the results of others. `step` is for people and not part of the identity."""

    id: str
    step: str
    operator: str
    version: int
    parameters: dict[str, Any]
    inputs: tuple[str, ...]


class PlannedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """What a label means, in coded words (value, scheme, meaning)."""

    label: int
    name: str
    category: tuple[str, str, str]
    type: tuple[str, str, str]
    color: tuple[int, int, int]


class PlannedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One result of the pipeline: a segmentation object and what was measured in it (node ids)."""

    name: str
    description: str
    mask: str
    """The label map on the source grid."""
    segmentation: str
    """The encoded DICOM SEG."""
    measurements: str | None
    segments: tuple[PlannedSegment, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes are in execution order; `blobs` are the digests of all stored bytes the kernels ask for."""

    format: str = FORMAT
    pipeline: str
    version: str
    title: str
    research_use_only: bool
    contract: dict[str, Any]
    nodes: tuple[Node, ...]
    outputs: tuple[PlannedOutput, ...]
    golden: tuple[dict[str, Any], ...]
    blobs: tuple[str, ...]
    gate: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    """Fields of models.pipeline.Gate; absent where the pipeline has the usual one."""

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes whose digest names the plan."""
        return canonical_json(msgspec.to_builtins(self))

    def node(self, node_id: str) -> Node:
        """Raises KeyError for an id that is not in the plan."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)


def stored_plan(store: Store, digest: Digest) -> Plan:
    """The plan of this digest. Raises: Unreadable, if it is no plan of this format; StoreError."""
    try:
        return read_plan(store.objects.get(digest))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(digest), str(error)) from error


def read_plan(data: bytes) -> Plan:
    """The plan in these bytes. Raises msgspec.DecodeError if they are no plan of this format."""
    plan = msgspec.json.decode(data, type=Plan)
    if plan.format != FORMAT:
        raise msgspec.ValidationError(f"format '{plan.format}' is not {FORMAT}")
    return plan


def node_identity(operator: str, version: int, parameters: dict[str, Any], inputs: tuple[str, ...]) -> str:
    """Equal work has an equal name in every pipeline: operator, version, parameters, identities of inputs."""
    return identity(
        {"operator": operator, "version": version, "parameters": parameters, "inputs": list(inputs)}
    )
