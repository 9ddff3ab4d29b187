"""What was measured about chains of numeric steps is remembered while it is about the same graphs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.compile import make_plan
from planner.execute import operator_of
from planner.fusing import fused_chains
from planner.numeric import choose
from planner.numeric.chains import Chain
from planner.numeric.record import Fused
from planner.plan import Plan


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def plan(store: Store) -> Plan:
    return make_plan(store, read_pipeline(pipeline_path("ct-lungs-net")))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Chain]:
    """The chains that were measured; each is as fast as can be."""
    chains: list[Chain] = []

    def fused(store: Store, chain: Chain) -> Fused:
        chains.append(chain)
        graph = str(store.objects.put(chain.graph()))
        nodes = tuple(node.id for node in chain.nodes)
        return Fused(nodes=nodes, graph=graph, tolerance=1e-5, numpy_s=1.0, onnx_s=0.1)

    monkeypatch.setattr(choose, "fused_or_none", fused)
    return chains


def chains_of(store: Store, plan: Plan) -> tuple[Fused, ...]:
    return fused_chains(store, [plan], operator_of, measuring=True)


def path_of(store: Store, text: str) -> Path:
    digest = Digest.parse(text)
    return store.objects.root / "objects" / digest.sha256[:2] / f"{digest.sha256}-{digest.size}"


def test_a_chain_is_measured_once_and_its_graph_is_kept_from_garbage_collection(
    store: Store, plan: Plan, measured: list[Chain]
) -> None:
    first = chains_of(store, plan)
    assert first
    for chain in first:
        os.utime(path_of(store, chain.graph), (1, 1))
    count = len(measured)
    assert chains_of(store, plan) == first
    assert len(measured) == count
    for chain in first:
        assert not store.objects.unused_since(Digest.parse(chain.graph), 1000)


def test_a_graph_that_was_collected_is_made_again(store: Store, plan: Plan, measured: list[Chain]) -> None:
    first = chains_of(store, plan)
    count = len(measured)
    for chain in first:
        path_of(store, chain.graph).unlink(missing_ok=True)
    assert chains_of(store, plan) == first
    assert len(measured) == count
    assert not store.objects.missing(Digest.parse(chain.graph) for chain in first)


def test_a_graph_that_is_made_otherwise_by_now_is_measured_again(
    store: Store, plan: Plan, measured: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chains_of(store, plan)
    count = len(measured)
    for chain in first:
        path_of(store, chain.graph).unlink(missing_ok=True)
    real = Chain.graph
    monkeypatch.setattr(Chain, "graph", lambda self: real(self) + b"\x32\x01x")  # another doc_string
    second = chains_of(store, plan)
    assert len(measured) == 2 * count
    assert {chain.graph for chain in first}.isdisjoint(chain.graph for chain in second)
    assert not store.objects.missing(Digest.parse(chain.graph) for chain in second)
