"""What kernels may reach, out of the store: networks ready to run and parameter sets, each loaded once."""

import io
import logging
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from models.engines.registry import EngineBroken, open_session
from models.operators.base import NetworkSession
from object_store.digest import Digest
from object_store.local import LocalStore
from planner.binding import Binding
from planner.networks.joint import Joint, joint_of
from planner.networks.records import NETWORK_FORMAT, BoundNetwork, Gated
from planner.networks.running.kept import Kept
from planner.networks.running.load import NetworkLoader
from planner.numeric.record import Fused
from planner.ways import made_here, ways_here

if TYPE_CHECKING:
    from planner.networks.running.together import JointSession

log = logging.getLogger(__name__)


class StoreResources:
    """Implements models.operators.base.Resources without a binding; threads may share one.

    A session is built by whoever asks first and lives until a binding comes and none in use names its graph
    or build. threads: of one network run.
    What is loaded is verified: a network with a damaged bit would compute, and nobody would know.
    """

    def __init__(self, store: Path, *, threads: int = 1) -> None:
        self._objects = LocalStore(store, verify_on_read=True)
        self._threads = threads
        self.loader = NetworkLoader(self._objects, threads=threads)
        self._opaque: Kept[NetworkSession] = Kept()
        self._parameters: Kept[Mapping[str, NDArray[np.float32]]] = Kept()
        self._said: set[str] = set()
        self._views: WeakSet[BoundResources] = WeakSet()
        self._coming = threading.Lock()

    def under(self, binding: Binding | None) -> "StoreResources | BoundResources":
        """The same resources, with networks run as a binding says. Cheap: sessions are shared."""
        if binding is None:
            return self
        view = BoundResources(self, binding)
        with self._coming:
            self._views.add(view)
            views = list(self._views)
        self.loader.keep_only(frozenset().union(*(view.builds for view in views)))
        opaque = set().union(*(view.opaque for view in views))
        self._opaque.keep_only(lambda graph: graph in opaque)
        return view

    def network(self, graph: str) -> NetworkSession:
        """The network of this digest: an opened one in fp32 (see NetworkLoader.as_kept), or an ONNX file.

        Raises: StoreError, KernelError (no valid graph), Unreadable.
        """
        return self.loader.as_kept(graph) if self.is_record(graph) else self.opaque(graph)

    def opaque(self, graph: str) -> NetworkSession:
        """The network in this ONNX file. Raises: StoreError, KernelError."""
        return self._opaque.get(graph, lambda: self._build(graph))

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        """The arrays of a stored .npz by name, read-only."""
        return self._parameters.get(digest, lambda: read_arrays(self._objects.map(Digest.parse(digest))))

    def warm_up(self, operators: Sequence[str]) -> None:
        """Import these operators, so that the first run does not wait for them."""
        from models.operators.registry import OPERATORS

        for word in operators:
            for module in OPERATORS[word].imports:
                import_module(module)

    def say_once(self, message: str) -> None:
        """Log a warning that has not been logged yet."""
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)

    def _build(self, graph: str) -> NetworkSession:
        return open_session("onnxruntime", self._objects.map(Digest.parse(graph)), {}, self._threads, {})

    def is_record(self, graph: str) -> bool:
        """A record is a few hundred bytes of JSON, which no ONNX file begins like."""
        digest = Digest.parse(graph)
        if digest.size > 4096:
            return False
        data = self._objects.get(digest)
        return data.startswith(b"{") and NETWORK_FORMAT.encode() in data


class BoundResources:
    """Implements Resources and planner.networks.joint.JointResources: StoreResources under one binding."""

    def __init__(self, shared: StoreResources, binding: Binding) -> None:
        self._shared = shared
        self._networks = binding.networks
        self._made_here = made_here(binding)
        named = {choice.build for bound in binding.networks.values() for choice in bound.choices}
        self.builds = frozenset(named.union(*(joint.builds() for joint in binding.joint)))
        """Digests of the builds that the binding names."""
        self.opaque: set[str] = set()
        """Networks that are ONNX files and were asked for under this binding."""
        self.joint: tuple[Joint, ...] = binding.joint
        """The nodes that are computed together."""
        self.fused: tuple[Fused, ...] = binding.fused
        """Chains of nodes that one graph computes."""
        self._together: Kept[JointSession] = Kept()

    def network(self, graph: str) -> NetworkSession:
        """The network of this digest, as the binding runs it. Raises: StoreError, KernelError, Unreadable.

        Of the binding's choices the first whose engine works here, but on another machine than the binding's
        the last, which is fp32; without one as StoreResources does. A network that the binding does not know
        runs from its imported numbers.
        """
        bound = self._networks.get(graph)
        if bound is None:
            if self._shared.is_record(graph):
                return self._shared.loader.exact(graph)
            self.opaque.add(graph)
            return self._shared.opaque(graph)
        for choice in self._choices(bound):
            try:
                return self._shared.loader.member(choice.build, graph, bound.variant)
            except EngineBroken as error:
                self._shared.say_once(f"networks bound to {choice.engine} run otherwise: {error}")
        return self._shared.network(graph)

    def _choices(self, bound: BoundNetwork) -> tuple[Gated, ...]:
        """How a network may run on this machine, the best first; a fall-back is logged, once."""
        if not self._made_here and len(bound.choices) > 1:
            self._shared.say_once(
                "the binding was made on another machine, or for other versions of the engines: "
                "until it is made here, networks run in fp32"
            )
        found = ways_here(bound, here=self._made_here)
        if self._made_here and bound.choices and found[:1] != bound.choices[:1]:
            first = bound.choices[0]
            way = f"{found[0].engine} {found[0].precision}" if found else "onnxruntime fp32"
            self._shared.say_once(
                f"{first.engine} is not installed here: networks bound to {first.engine} {first.precision} "
                f"run on {way}"
            )
        return found

    def networks(self, graphs: Sequence[str]) -> "JointSession | None":
        """The session for exactly these networks, in any order; None if they share no parts."""
        joint = joint_of(self.joint, graphs)
        if joint is None or joint.parts is None:
            return None
        from planner.networks.running.together import JointSession

        parts = joint.parts
        return self._together.get(joint.networks, lambda: JointSession(parts, self._shared.loader.build))

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        """See StoreResources.parameters."""
        return self._shared.parameters(digest)


def read_arrays(data: bytes | memoryview) -> Mapping[str, NDArray[Any]]:
    """The arrays of an .npz by name, read-only. Pickled objects are refused (ValueError)."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
