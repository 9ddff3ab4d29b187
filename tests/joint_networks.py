"""Families of networks, opened, cut and run together, without a store."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from planner.networks.building.build import plain
from planner.networks.cutting.cut import cut
from planner.networks.cutting.extract import Part
from planner.networks.cutting.parts import taken_apart
from planner.networks.cutting.union import Whole
from planner.networks.joint import JointParts
from planner.networks.reading.opening import open_network
from planner.networks.running.together import JointSession
from planner.networks.structure import Opened

Array = NDArray[Any]


@dataclass(frozen=True)
class Family:
    """Networks by digests made up here, in the order of the models."""

    networks: tuple[str, ...]
    wholes: Mapping[str, Whole]
    arrays: Mapping[str, Array]


class Counting:
    """A session that counts its runs."""

    def __init__(self, session: OnnxSession) -> None:
        self._session = session
        self.runs = 0

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        self.runs += 1
        return self._session.run(inputs)


@dataclass(frozen=True)
class Together:
    parts: JointParts
    session: JointSession
    builds: Mapping[str, Counting]


def family_of(models: Sequence[onnx.ModelProto]) -> Family:
    wholes, arrays = {}, {}
    for number, model in enumerate(models):
        opened = opened_model(model.SerializeToString())
        digests = {name: digest_of(array) for name, array in opened.tensors.items()}
        wholes[f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}:1"] = Whole(opened.structure, digests)
        arrays.update({digests[name]: array for name, array in opened.tensors.items()})
    return Family(tuple(wholes), wholes, arrays)


def together(family: Family, fed: tuple[int, ...]) -> Together | None:
    """The networks as one session; None where nothing is worth sharing."""
    found = cut(family.wholes, fed)
    if found is None:
        return None
    builds: dict[str, Counting] = {}

    def build(part: Part) -> str:
        graph = plain(part.structure, {name: family.arrays[d] for name, d in part.digests.items()})
        name = f"build {len(builds)}"
        builds[name] = Counting(OnnxSession(graph.graph, graph.large))
        return name

    parts = taken_apart(found, build)
    return Together(parts, JointSession(parts, builds.__getitem__), builds)


@cache
def opened_model(model: bytes) -> Opened:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model)
        return open_network(path)


def digest_of(array: Array) -> str:
    return f"{array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"
