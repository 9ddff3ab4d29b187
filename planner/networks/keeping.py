"""Networks in the store: how they are written, and how their numbers are read back however they are kept."""

import io
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.local import LocalStore
from object_store.names import Names
from planner.canonical import canonical_json
from planner.errors import Unreadable
from planner.names import exact_name, variant_name
from planner.networks.families.filters import filters_of
from planner.networks.families.low_rank import with_low_rank
from planner.networks.families.sparse import Sparse, with_sparse
from planner.networks.families.unfold import refolded, unpacked_residual
from planner.networks.records import (
    BUILD_FORMAT,
    EXACT_FORMAT,
    FAMILY_FORMAT,
    LARGE_BYTES,
    NETWORK_FORMAT,
    VARIANT_FORMAT,
    Exact,
    NetworkRecord,
    Variant,
)
from planner.networks.structure import Opened, Structure, read_structure

Array = NDArray[Any]

FORMATS = (NETWORK_FORMAT, FAMILY_FORMAT, VARIANT_FORMAT, EXACT_FORMAT, BUILD_FORMAT)
"""Of the records whose references `network_references` knows."""

_ALIGNMENT = 8


def record_objects(opened: Opened, weights: Mapping[str, Digest]) -> tuple[Digest, dict[Digest, bytes]]:
    """The digest of a network whose large tensors have these digests, and the objects that describe it."""
    structure = opened.structure.to_bytes()
    listed = canonical_json({name: str(digest) for name, digest in weights.items()})
    pack = packed_small(opened.structure, opened.tensors)
    record = NetworkRecord(
        structure=str(Digest.of(structure)), weights=str(Digest.of(listed)), small=str(Digest.of(pack))
    ).to_bytes()
    objects = {Digest.of(data): data for data in (structure, listed, pack, record)}
    return Digest.of(record), objects


def network_digest(opened: Opened) -> Digest:
    """What the network would be called in a store; hashes all of it."""
    weights = {name: Digest.of(raw_bytes(array)) for name, array in large_tensors(opened).items()}
    return record_objects(opened, weights)[0]


def is_large(structure: Structure, name: str) -> bool:
    """Whether the tensor is an object of its own; all others of a network lie in its pack."""
    return structure.tensors[name].nbytes >= LARGE_BYTES


def large_tensors(opened: Opened) -> dict[str, Array]:
    """By name, in canonical order; contiguous."""
    return {
        name: np.ascontiguousarray(array)
        for name, _, array in opened.typed_tensors()
        if is_large(opened.structure, name)
    }


def raw_bytes(array: Array) -> memoryview:
    """The bytes of an array in C order, little-endian."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def packed_small(structure: Structure, tensors: Mapping[str, Array]) -> bytes:
    """The pack of a network, see NetworkRecord.small."""
    pack = io.BytesIO()
    for name in structure.tensor_names():
        if not is_large(structure, name):
            pack.write(b"\0" * (-pack.tell() % _ALIGNMENT))
            pack.write(raw_bytes(tensors[name]))
    return pack.getvalue()


def unpacked_small(structure: Structure, data: bytes | memoryview) -> dict[str, Array]:
    """The tensors in a pack by name, read-only. Raises: ValueError if it is too short."""
    found, offset = {}, 0
    for name in structure.tensor_names():
        if not is_large(structure, name):
            offset += -offset % _ALIGNMENT
            type_ = structure.tensors[name]
            piece = np.frombuffer(data, np.uint8, type_.nbytes, offset)
            found[name] = _as_tensor(structure, name, piece.data)
            offset += type_.nbytes
    return found


class NetworkReader:
    """Reads networks out of a store, at planning and at run time. Arrays it gives are not to be written to.

    Every method raises: ObjectMissing, ObjectCorrupt, StoreUnavailable; Unreadable, for a record of another
    version of Lightbox.
    """

    def __init__(self, objects: LocalStore, names: Names | None = None) -> None:
        """names: those of the same store; without them they are opened where they are needed."""
        self.objects = objects
        self._names = names

    def record(self, network: Digest | str) -> NetworkRecord:
        record: NetworkRecord = self.read(network, NetworkRecord)
        return record

    def structure(self, network: Digest | str) -> Structure:
        digest = self.record(network).structure
        try:
            return read_structure(self.objects.get(Digest.parse(digest)))
        except msgspec.DecodeError as error:
            raise Unreadable(digest, str(error)) from error

    def small(self, network: Digest | str) -> dict[str, Array]:
        """The small tensors as they were imported."""
        pack = Digest.parse(self.record(network).small)
        return unpacked_small(self.structure(network), self.objects.get(pack))

    def weights(self, network: Digest | str) -> dict[str, Digest]:
        """Digests of the large tensors as they were imported, by name; the objects need not be here."""
        listed = Digest.parse(self.record(network).weights)
        texts = msgspec.json.decode(self.objects.get(listed), type=dict[str, str])
        return {name: Digest.parse(text) for name, text in texts.items()}

    def variant(self, network: Digest | str) -> Variant | None:
        """How the network is kept; None if it was never registered."""
        named = self._named(variant_name(_digest(network).sha256))
        return None if named is None else self.read(named, Variant)

    def large(self, structure: Structure, name: str, digest: Digest) -> Array:
        """The tensor `name` of this structure that lies in the object `digest`: a view of its file."""
        return _as_tensor(structure, name, self.objects.map(digest))

    def arrays(self, variant: Variant) -> dict[str, Array]:
        """The arrays of `variant.extra` by name."""
        if not variant.extra:
            return {}
        with np.load(io.BytesIO(self.objects.get(Digest.parse(variant.extra))), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def tensors(self, network: Digest | str) -> dict[str, Array]:
        """All tensors as they were imported, bit for bit.

        Raises: ObjectMissing too for a variant kept with rounding that was verified: its imported numbers
        were let go then.
        """
        structure, weights = self.structure(network), self.weights(network)
        found = {
            name: self.large(structure, name, digest)
            for name, digest in weights.items()
            if digest in self.objects
        }
        if lacking := [name for name in weights if name not in found]:
            variant = self.variant(network)
            if variant is None or variant.family == str(network):
                raise ObjectMissing(weights[lacking[0]])
            exact = self._exact(network)
            whole = exact.bits if exact else {}
            for name in lacking:
                if variant.kept.get(name) in ("scaled", "low_rank", "stored") and name not in whole:
                    raise ObjectMissing(weights[name])
            residuals = self._residuals(exact, structure)
            found.update(self._computed(structure, variant, lacking, residuals))
        return {**found, **self.small(network)}

    def tensors_as_kept(self, network: Digest | str) -> dict[str, Array]:
        """All tensors of the network itself: as they were imported, but of a variant kept with rounding, once
        it was verified, as they follow from its base, whether its imported numbers still lie about or not.
        """
        variant = self.variant(network)
        if variant is None or variant.exact or variant.verified is None:
            return self.tensors(network)
        structure, large = self.structure(network), self.weights(network)
        return {**self._computed(structure, variant, large, {}), **self.small(network)}

    def effective_small(self, network: Digest | str) -> dict[str, Array]:
        """Small tensors that, beside the base's large ones, make the network: what its family's stage is fed.

        Where a filter is the base's with a factor per channel, the factor is in the tensor that multiplies
        the filter's output, and a small filter is the base's.
        """
        own = self.small(network)
        variant = self.variant(network)
        if variant is None or "scaled" not in variant.kept.values():
            return own
        extra, filters = self.arrays(variant), filters_of(self.structure(network))
        base = self.small(variant.family)
        for name in (name for name, how in variant.kept.items() if how == "scaled"):
            if name in own:
                own[name] = base[name]
            for factor in filters[name].factors:
                own[factor] = merged_factor(own[factor], extra[f"{name}.scale"])
        return own

    def kept_tensors(self, network: Digest | str) -> dict[str, Array]:
        """All tensors as the network's family computes with them; outputs are those of `tensors_as_kept`."""
        variant, structure = self.variant(network), self.structure(network)
        if variant is None:
            return self.tensors(network)
        large = self.tensors(variant.family)
        large.update(self._computed(structure, variant, variant.own_large, {}))
        return {**large, **self.effective_small(network)}

    def own_tensors(self, variant: Variant, names: Iterable[str]) -> dict[str, Array]:
        """These large tensors as this record of the network says: computed from its base's, or stored."""
        return self._computed(self.structure(variant.network), variant, names, {})

    def read(self, digest: Digest | str, type_: type[Any]) -> Any:
        """A record of this type (see planner.networks.records)."""
        data = self.objects.get(_digest(digest))
        try:
            found = msgspec.json.decode(data, type=type_)
        except msgspec.DecodeError as error:
            raise Unreadable(str(digest), str(error)) from error
        if found.format != (expected := _format_of(type_)):  # type: ignore[arg-type]  # a class is hashable
            raise Unreadable(str(digest), f"format '{found.format}' is not {expected}")
        return found

    def _computed(
        self,
        structure: Structure,
        variant: Variant,
        names: Iterable[str],
        residuals: Mapping[str, NDArray[np.int8]],
    ) -> dict[str, Array]:
        """These large tensors of a variant, from its base and its difference, or as it stores them."""
        base, extra = self.weights(variant.family), self.arrays(variant)
        filters = filters_of(structure)
        found = {}
        for name in names:
            if name in variant.tensors:
                found[name] = self.large(structure, name, Digest.parse(variant.tensors[name]))
                continue
            was = self.large(structure, name, base[name])
            match variant.kept.get(name, "equal"):
                case "scaled":
                    scale = extra[f"{name}.scale"]
                    found[name] = refolded(filters[name], was, scale, residuals.get(name))
                case "low_rank":
                    found[name] = with_low_rank(was, extra[f"{name}.left"], extra[f"{name}.right"])
                case "sparse":
                    few = Sparse(extra[f"{name}.indices"], extra[f"{name}.values"])
                    found[name] = with_sparse(was, few)
                case _:
                    found[name] = was
        return found

    def _exact(self, network: Digest | str) -> Exact | None:
        named = self._named(exact_name(_digest(network).sha256))
        return None if named is None else self.read(named, Exact)

    def _residuals(self, exact: Exact | None, structure: Structure) -> dict[str, NDArray[np.int8]]:
        if exact is None or not exact.residual:
            return {}
        data, offset, found = self.objects.map(Digest.parse(exact.residual)), 0, {}
        for name in (name for name in structure.tensor_names() if name in exact.bits):
            size = structure.tensors[name].nbytes // np.dtype(structure.tensors[name].dtype).itemsize
            count = -(-size // (8 // exact.bits[name]))
            piece = np.frombuffer(data, np.uint8, count, offset)
            found[name] = unpacked_residual(piece, exact.bits[name], size)
            offset += count
        return found

    def _named(self, name: str) -> Digest | None:
        if self._names is not None:
            return self._names.get(name)
        with closing(Names(self.objects.root / "names.sqlite")) as names:
            return names.get(name)


def merged_factor(factor: Array, scale: NDArray[np.float32]) -> Array:
    """factor * scale, channel by channel, in float64 and rounded once."""
    product = factor.reshape(-1).astype(np.float64) * scale
    return np.asarray(product.astype(factor.dtype).reshape(factor.shape))


def network_references(data: bytes) -> tuple[Digest, ...]:
    """What a record of one of FORMATS keeps from garbage collection; () for any other bytes.

    A network keeps its structure, its pack and the list of its large tensors, not these: a variant may be
    kept without them. A variant keeps the large tensors that it lists: a base's all; `exact/...` those of an
    unverified one.
    """
    if not data.startswith(b"{") or not any(b'"format":"' + name.encode() + b'"' in data for name in FORMATS):
        return ()
    fields = msgspec.json.decode(data)
    match fields.get("format"):
        case "lightbox.network/1":
            named = [fields["structure"], fields["weights"], fields["small"]]
        case "lightbox.family/1":
            named = [fields["structure"], fields["base"]]
        case "lightbox.variant/1":
            named = [fields["network"], fields["family"], fields["extra"], *fields["tensors"].values()]
        case "lightbox.exact/1":
            named = [fields["network"], fields["residual"], *fields["tensors"].values()]
        case "lightbox.build/1":
            blobs = [place["blob"] for place in fields["tensors"].values()]
            named = [fields["graph"], fields.get("otherwise", ""), *blobs]
        case _:
            named = []
    return tuple(Digest.parse(text) for text in dict.fromkeys(named) if text)


@cache
def _format_of(type_: type[Any]) -> str:
    """What records of this type say they are."""
    return str(next(field.default for field in msgspec.structs.fields(type_) if field.name == "format"))


def _digest(digest: Digest | str) -> Digest:
    return Digest.parse(digest) if isinstance(digest, str) else digest


def _as_tensor(structure: Structure, name: str, data: memoryview) -> Array:
    type_ = structure.tensors[name]
    little = np.dtype(type_.dtype).newbyteorder("<")
    return np.frombuffer(data, little).reshape(type_.shape)
