"""Networks built in code, registered in a store of their own, and loaded as a worker loads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.names import variant_name
from planner.networks.building.build import build_family
from planner.networks.families.members import families
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.networks.records import Engine, Family, Precision
from planner.networks.running.load import NetworkLoader
from planner.networks.running.sessions import BuildSession


class StoredFamily:
    """Models of one structure in a store; the first is the base."""

    def __init__(self, folder: Path, models: Sequence[onnx.ModelProto]) -> None:
        folder.mkdir(exist_ok=True)
        self.store: Store = open_store(folder / "store")
        self.networks: list[str] = []
        for number, model in enumerate(models):
            path = folder / f"{number}.onnx"
            onnx.save(model, path)
            self.networks.append(str(register(self.store, open_network(path)).network))
        self.loader = NetworkLoader(self.store.objects)

    @property
    def family(self) -> Family:
        (found,) = families(self.store).values()
        return found

    def build(self, engine: Engine = "onnxruntime", precision: Precision = "fp32", **options: Any) -> Digest:
        return build_family(self.store, self.family, engine=engine, precision=precision, **options)

    def variant(self, network: str) -> str:
        return str(self.store.names.get(variant_name(Digest.parse(network).sha256)))

    def members(self, build: Digest) -> list[BuildSession]:
        """A session for each model, in their order."""
        return [self.loader.member(str(build), n, self.variant(n)) for n in self.networks]
