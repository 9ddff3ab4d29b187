"""How networks are kept in the store: records with digests, families, variants and builds.

A **network** is what a plan names: structure and numbers, the same digest on any machine and in any store.
How its numbers are kept is the store's affair and may change: a **variant** says what a network adds to the
**base** of its **family**. A **build** is one compiled form of a family for one engine and precision.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from planner.canonical import canonical_json

NETWORK_FORMAT = "lightbox.network/1"
FAMILY_FORMAT = "lightbox.family/1"
VARIANT_FORMAT = "lightbox.variant/1"
EXACT_FORMAT = "lightbox.exact/1"
BUILD_FORMAT = "lightbox.build/1"

LARGE_BYTES = 16 * 1024
"""Tensors from this size on are objects of their own; smaller ones of a network lie together in one pack."""

Engine: TypeAlias = Literal["onnxruntime", "openvino"]
Precision: TypeAlias = Literal["fp32", "bf16", "int8", "mixed"]


class NetworkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a network; its own digest is what plans call `graph`.

    weights: digest of the canonical JSON object that gives each large tensor's digest by name. The tensors
    themselves need not be in the store: a variant may be kept as base and difference.
    small: digest of the pack: all other tensors, raw little-endian bytes one after the other, in the order of
    Structure.tensor_names(), each starting at a multiple of 8.
    """

    format: str = NETWORK_FORMAT
    structure: str
    weights: str
    small: str

    def to_bytes(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Networks of one structure that run as one compiled stage.

    Tensors in none of the lists are equal in all members. Names are the structure's. How many members there
    are is not part of it (`families.members`): a member that differs nowhere new leaves it as it is.
    """

    format: str = FAMILY_FORMAT
    structure: str
    base: str
    """Digest of the network whose large tensors all members share."""
    lifted: tuple[str, ...] = ()
    """Small tensors that differ: inputs of the stage. What a member feeds: NetworkReader.effective_small."""
    scaled: tuple[str, ...] = ()
    """Filters that differ by one factor per output channel (folded normalisation). The stage needs no input
    for them: the factor is part of the lifted tensor that multiplies the filter's output."""
    low_rank: dict[str, int] = {}
    """Large tensors that differ by a product of two thin matrices, and the largest rank among members."""
    sparse: tuple[str, ...] = ()
    """Large tensors that differ in a few numbers; such a member needs them in full where it runs."""
    private: tuple[str, ...] = ()
    """Large tensors that some member keeps in full; it needs them where it runs, as `sparse` ones."""

    def to_bytes(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


Keeping: TypeAlias = Literal["equal", "scaled", "low_rank", "sparse", "stored"]
"""How a large tensor of a variant is kept: as the base's, as the base's times a factor per output channel, as
the base's plus a low-rank or sparse difference, or in full."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when a variant's outputs were compared with those of the network as it was imported."""

    inputs: int
    largest_difference: float
    """Of any output value, relative to the largest magnitude of that output."""
    tolerance: float
    passed: bool


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """How one network is kept: against the base of its family (`family` is that base network's digest)."""

    format: str = VARIANT_FORMAT
    network: str
    family: str
    kept: dict[str, Keeping] = {}
    """By name, the large tensors that differ from the base's, and small filters that are scaled; all other
    large tensors are equal, all other small ones are in the network's own pack."""
    tensors: dict[str, str] = {}
    """Digests of a base's large tensors, or of those that a member has `stored`; this record keeps them from
    garbage collection."""
    extra: str = ""
    """Digest of an .npz with what `kept` needs: `t3.scale` float32[channels]; `t3.left` float32[m, r] and
    `t3.right` float32[r, n] of the tensor as a matrix [shape[0], rest]; `t3.indices` uint32 (flat) and
    `t3.values`. Of a base: `peaks` int64, for each channel of each filter the place (flat) of its largest
    number."""
    exact: bool = True
    """False: its numbers differ from the imported ones by rounding (`tolerance`: the largest, relative)."""
    tolerance: float = 0.0
    verified: Verification | None = None
    """Until an inexact variant was verified its exact tensors stay in the store (`Exact`)."""

    @property
    def own_large(self) -> tuple[str, ...]:
        """Large tensors that differ from the base's in effect, as those `scaled` do not.

        A stage without parameters for the difference (`left`, `right`) needs them in full, see
        NetworkReader.kept_tensors.
        """
        return tuple(
            sorted(name for name, how in self.kept.items() if how in ("low_rank", "sparse", "stored"))
        )

    def to_bytes(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


class Exact(msgspec.Struct, frozen=True, kw_only=True):
    """What gives back the imported numbers of an inexact variant, bit for bit, until it is verified.

    residual: digest of small integers that the bits of the refolded tensors in `bits` lack, one tensor after
    the other, in canonical order; `bits`: how many bits each takes. tensors: digests of tensors kept in full.
    """

    format: str = EXACT_FORMAT
    network: str
    residual: str = ""
    bits: dict[str, int] = {}
    tensors: dict[str, str] = {}

    def to_bytes(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


class TensorAt(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of a tensor lie: in an object, from `offset` on."""

    blob: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""
    """How the engine wants it to lie (planner.networks.building.blocked); "" for C order, as it is kept."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """An input of a build that every variant fills with a tensor of its own.

    shape: with a leading 1 that a batch across variants replaces by its size, where `per_sample`.
    of: the structure's tensor; part: "" for the tensor itself, else `left`, `left.T` (transposed) or `right`
    of its low-rank difference to the base.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    of: str
    part: str = ""
    per_sample: bool = True


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A family compiled for one engine: an ONNX graph without its large tensors, and where those are.

    graph: digest of ONNX bytes that lack the initialisers named in `tensors`; the engine adds them. One
    session serves every variant: `parameters` are given with each run.
    """

    format: str = BUILD_FORMAT
    engine: Engine
    precision: Precision
    graph: str
    tensors: dict[str, TensorAt]
    parameters: tuple[Parameter, ...]
    hints: dict[str, str] = {}
    """What the engine is told, in its own words: `INFERENCE_PRECISION_HINT: bf16`."""
    items_apart: bool = False
    """Each item of a batch is computed by itself, so a batch may be run in pieces."""
    channel_block: int = 0
    """The size of onnxruntime's blocks of channels that it was made for; 0: any."""
    runtime: str = ""
    """The version of onnxruntime that it was made by and for; "": any."""
    otherwise: str = ""
    """Digest of the build to take where this one does not fit the machine."""
    network: str = ""
    """Digest of the one network whose numbers are all in it; "" for a build of a family."""

    def to_bytes(self) -> bytes:
        return canonical_json(msgspec.to_builtins(self))


class Gated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way of running a network, and how it did at the gate of the pipelines that use it."""

    build: str
    engine: Engine
    precision: Precision
    passed: bool
    figures: dict[str, Any]
    """What was measured: seconds, least and mean Dice, largest change of a volume; empty for plain fp32."""
    alone: bool = False
    """Whether the build is this network's own, and no other member of its family's."""

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}" + (" (own build)" if self.alone else "")


class BoundNetwork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a network runs under a binding: the first of `choices` whose engine this machine has."""

    variant: str
    """Digest of the Variant; empty for an opaque network, whose file is the build's graph."""
    family: str = ""
    """Digest of the base of its family; empty for an opaque network."""
    choices: tuple[Gated, ...]
    refused: tuple[Gated, ...] = ()
    """Ways that were found for its family and that the gate of a pipeline refused."""
    gates: tuple[dict[str, float], ...] = ()
    """What the pipelines that use it asked, where ways were tried: each gate once (fields of Gate)."""
    unjudged: tuple[str, ...] = ()
    """Digests of plans that have not judged a way that was found, alone or beside their other networks, so
    that it is not used; nobody has refused it."""
