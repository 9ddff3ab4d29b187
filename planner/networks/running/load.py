"""Networks out of the store, ready to run: one session per build, a few kilobytes per member.

Imported by workers: neither onnx nor an engine is imported before a network asks for it.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.engines.registry import open_session
from models.errors import KernelError
from models.operators.base import NetworkSession
from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.local import LocalStore
from planner.errors import Unreadable
from planner.networks.building.blocked import blocked
from planner.networks.keeping import NetworkReader, merged_factor, unpacked_small
from planner.networks.records import Build, Parameter, TensorAt, Variant
from planner.networks.running.kept import Kept
from planner.networks.running.sessions import BuildSession, CompiledBuild
from planner.networks.structure import Structure, read_structure

Array = NDArray[Any]
log = logging.getLogger(__name__)

PRIVATE_SESSIONS = 8
"""Sessions of single networks that are kept: members that need large tensors of their own, and networks that
no binding knows. Each holds a copy of its weights."""

PARAMETER_BYTES = 256 << 20
"""Of members' parameters that are kept; a member of a 7.8 M-parameter U-Net takes 25 KB."""


@dataclass(frozen=True, slots=True)
class _Alone:
    """A member that needs a session of its own, and the tensors that it puts into the build for that."""

    build: Build
    kept: Variant
    tensors: tuple[str, ...]
    parameters: Mapping[str, Array]


class NetworkLoader:
    """Loads builds and members. Threads may share one; what is loaded stays, within the bounds above."""

    def __init__(self, objects: LocalStore, *, threads: int = 1) -> None:
        """objects: a store that verifies what is read; threads: of one run of a network."""
        self._objects = objects
        self._reader = NetworkReader(objects)
        self._threads = threads
        self._compiled: Kept[CompiledBuild] = Kept()
        self._private: Kept[BuildSession] = Kept(most=PRIVATE_SESSIONS)
        self._members: Kept[BuildSession | _Alone] = Kept(most=PARAMETER_BYTES, size=_parameter_bytes)
        self._build = lru_cache(maxsize=64)(self._read_build)
        self._structure = lru_cache(maxsize=64)(self._read_structure)
        self._base_small = lru_cache(maxsize=64)(self._read_base_small)

    def build(self, digest: str) -> NetworkSession:
        """The session of a build without parameters: a network's, or a part of one.

        Raises: StoreError, Unreadable, KernelError.
        """
        return BuildSession(self.compiled(digest), {})

    def member(self, build: str, network: str, variant: str) -> BuildSession:
        """A network on a build of its family, all by digest; variant: empty for an opaque network.

        Raises: StoreError, Unreadable, KernelError.
        """
        found = self._members.get((build, network, variant), lambda: self._member(build, network, variant))
        if isinstance(found, BuildSession):
            return found
        return self._private.get((build, network), lambda: self._alone(found))

    def compiled(self, digest: str) -> CompiledBuild:
        """A build and its session, each built once. Raises: StoreError, Unreadable, KernelError."""
        return self._compiled.get(digest, lambda: self._fitting(self._build(digest)))

    def exact(self, network: str) -> NetworkSession:
        """A network by itself from its imported numbers, fp32 in onnxruntime, compiled here and now.

        That needs the planner's extra. Raises: StoreError, Unreadable; KernelError, also for a network whose
        imported numbers were let go: others would give other bytes under the same binding.
        """
        return self._private.get(("exact", network), lambda: self._plain(network, self._imported(network)))

    def as_kept(self, network: str) -> NetworkSession:
        """The same from the numbers it computes with where no binding says how: the imported ones until it is
        verified. For what is not served under a binding."""
        return self._private.get(
            ("kept", network), lambda: self._plain(network, self._reader.tensors_as_kept(network))
        )

    def keep_only(self, builds: Collection[str]) -> None:
        """Let go of the sessions of all other builds, and of members on these."""
        wanted = set(builds)
        named = {compiled.build.otherwise for key, compiled in self._compiled.items() if key in wanted}
        self._compiled.keep_only(lambda key: key in wanted or key in named)
        self._members.keep_only(lambda key: isinstance(key, tuple) and key[0] in wanted)
        self._private.keep_only(lambda key: isinstance(key, tuple) and key[0] in {*wanted, "exact", "kept"})

    def _fitting(self, build: Build) -> CompiledBuild:
        """The build, or the one it names for machines and versions that it does not fit."""
        if build.otherwise and not _fits_here(build):
            return self.compiled(build.otherwise)
        try:
            return self._compile(build, {})
        except KernelError as error:
            log.error("a build for %s %s cannot be loaded: %s", build.engine, build.precision, error)
            raise

    def _member(self, build: str, network: str, variant: str) -> "BuildSession | _Alone":
        if not variant:
            return BuildSession(self.compiled(build), {})
        kept: Variant = self._reader.read(variant, Variant)
        made = self._build(build)
        if not made.network:
            return self._on(self.compiled(build), network, kept)
        if made.network != network:
            raise KernelError(f"the build of network {made.network} does not compute {network}")
        return _Alone(made, kept, (), {})

    def _on(self, compiled: CompiledBuild, network: str, kept: Variant) -> "BuildSession | _Alone":
        fed = {parameter.of for parameter in compiled.build.parameters}
        alone = [
            name
            for name, how in kept.kept.items()
            if how in ("sparse", "stored") or (how == "low_rank" and name not in fed)
        ]
        if lacking := [name for name in alone if name not in compiled.build.tensors]:
            if not compiled.build.otherwise:
                raise KernelError(f"the build of network {network} has no place for its tensor {lacking[0]}")
            return self._on(self.compiled(compiled.build.otherwise), network, kept)
        parameters = self._parameters(compiled.build, network, kept)
        if not alone:
            return BuildSession(compiled, parameters)
        return _Alone(compiled.build, kept, tuple(alone), parameters)

    def _alone(self, member: "_Alone") -> BuildSession:
        """A member with a session of its own, for it has large tensors of its own."""
        own = self._reader.own_tensors(member.kept, member.tensors)
        return BuildSession(self._compile(member.build, own), member.parameters)

    def _compile(self, build: Build, own: Mapping[str, Array]) -> CompiledBuild:
        tensors = {
            name: blocked(own[name] if name in own else self._tensor(at), at.layout)
            for name, at in build.tensors.items()
        }
        graph = self._objects.map(Digest.parse(build.graph))
        return CompiledBuild(build, open_session(build.engine, graph, tensors, self._threads, build.hints))

    def _imported(self, network: str) -> Mapping[str, Array]:
        try:
            return self._reader.tensors(network)
        except ObjectMissing as error:
            variant = self._reader.variant(network)
            if variant is None or variant.exact or variant.verified is None:
                raise
            raise KernelError(
                "this network was verified since this binding was made, and its imported numbers "
                "were let go: it runs under the binding of now"
            ) from error

    def _plain(self, network: str, tensors: Mapping[str, Array]) -> BuildSession:
        try:
            from planner.networks.building.build import plain
        except ImportError as error:
            raise KernelError(
                "this network is in no binding, and compiling it needs the planner's extra: "
                "pip install -e '.[planner]' in Lightbox's folder"
            ) from error
        made = plain(self._reader.structure(network), tensors)
        session = open_session("onnxruntime", made.graph, made.large, self._threads, {})
        build = Build(engine="onnxruntime", precision="fp32", graph="", tensors={}, parameters=())
        return BuildSession(CompiledBuild(build, session), {})

    def _read_build(self, digest: str) -> Build:
        build: Build = self._reader.read(digest, Build)
        return build

    def _tensor(self, at: TensorAt) -> Array:
        data = self._objects.map(Digest.parse(at.blob))
        dtype = np.dtype(at.dtype).newbyteorder("<")
        return np.frombuffer(data, dtype, int(np.prod(at.shape)), at.offset).reshape(at.shape)

    def _parameters(self, build: Build, network: str, variant: Variant) -> dict[str, Array]:
        """Every parameter of the build, filled with this member's numbers."""
        if not build.parameters:
            return {}
        record = self._reader.record(network)
        structure = self._structure(record.structure)
        small = unpacked_small(structure, self._objects.get(Digest.parse(record.small)))
        arrays = self._reader.arrays(variant)
        self._scale(small, variant, arrays, structure)
        return {p.name: _filled(p, small, arrays) for p in build.parameters}

    def _scale(
        self, small: dict[str, Array], variant: Variant, arrays: Mapping[str, Array], structure: Structure
    ) -> None:
        """Put the factors of scaled filters where they act, see NetworkReader.effective_small."""
        scaled = [name for name, how in variant.kept.items() if how == "scaled"]
        if not scaled:
            return
        from planner.networks.families.filters import filters_of

        filters = filters_of(structure)
        for name in scaled:
            if name in small:
                small[name] = self._base_small(variant.family)[name]
            for factor in filters[name].factors:
                small[factor] = merged_factor(small[factor], arrays[f"{name}.scale"])

    def _read_structure(self, digest: str) -> Structure:
        try:
            return read_structure(self._objects.get(Digest.parse(digest)))
        except msgspec.DecodeError as error:
            raise Unreadable(digest, str(error)) from error

    def _read_base_small(self, base: str) -> Mapping[str, Array]:
        return self._reader.small(base)


def _filled(parameter: Parameter, small: Mapping[str, Array], arrays: Mapping[str, Array]) -> Array:
    """Read-only, contiguous, in the parameter's shape and dtype."""
    if not parameter.part:
        value = np.zeros(parameter.shape, parameter.dtype)  # engines may want noughts up to a whole block
        flat = small[parameter.of].reshape(-1)
        value.reshape(-1)[: flat.size] = flat
    else:
        value = _factor(parameter, arrays.get(f"{parameter.of}.{parameter.part.partition('.')[0]}"))
    value.flags.writeable = False
    return value


def _fits_here(build: Build) -> bool:
    if not build.channel_block:
        return True
    from models.engines import onnxruntime as engine

    return (engine.channel_block(), engine.runtime_version()) == (build.channel_block, build.runtime)


def _factor(parameter: Parameter, factor: Array | None) -> Array:
    """One factor of a low-rank difference, filled up with noughts to the family's rank; all noughts for a
    member that has no difference. part: `left`, `left.T` (transposed) or `right`."""
    turned = parameter.part.endswith(".T")
    rank_first = turned or parameter.part == "right"
    shape = (parameter.shape[0], int(np.prod(parameter.shape[1:])))
    value = np.zeros(shape, parameter.dtype)
    if factor is not None:
        matrix = factor.T if turned else factor
        if rank_first:
            value[: len(matrix)] = matrix
        else:
            value[:, : matrix.shape[1]] = matrix
    return value.reshape(parameter.shape)


def _parameter_bytes(member: BuildSession | _Alone) -> int:
    return sum(array.nbytes for array in member.parameters.values())
