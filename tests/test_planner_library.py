"""A server goes on when the store holds what it cannot read, and when the store cannot be read at all."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import serving.server
from loadtest.server import LightboxServer, lightbox
from object_store.errors import ObjectMissing, StoreError, StoreUnavailable
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.names import BINDING, promoted_name
from planner.plan import Node, Plan
from serving.library import Library
from serving.server import Server
from tests.planner_cases import bare_plan

DEADLINE_S = 30.0
ALIENS = [b'{"format": "lightbox.plan/99"}', b"no JSON", b"\xff\xfe"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def a_plan(operator: str) -> Plan:
    return bare_plan(Node(id="n", step="s", operator=operator, version=1, parameters={}, inputs=()))


@pytest.mark.parametrize("content", ALIENS)
def test_a_plan_that_cannot_be_read_is_left_out_and_the_others_are_not(
    store: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    alien, plan = store.objects.put(content), a_plan("decode")
    store.names.set(promoted_name("local", "alien"), alien)
    store.names.set(promoted_name("local", "good"), store.objects.put(plan.to_bytes()))
    library = Library(store, ("local",))
    library.refresh()
    assert library.promoted_plans() == (plan,)
    assert str(alien) in caplog.text
    with pytest.raises(StoreError):
        library.plan(str(alien))
    with pytest.raises(StoreError):
        library.binding(str(alien))


@pytest.mark.parametrize("content", ALIENS)
def test_a_binding_that_cannot_be_read_is_none_until_there_is_another(store: Store, content: bytes) -> None:
    library = Library(store, ())
    store.names.set(BINDING, store.objects.put(content))
    assert library.refresh()
    assert library.current_binding is None
    digest = store.objects.put(Binding(machine={}, plans={}, stages=()).to_bytes())
    store.names.set(BINDING, digest)
    assert library.refresh()
    assert library.current_binding == str(digest)


def test_a_binding_that_is_gone_is_none(store: Store) -> None:
    digest = store.objects.put(b"gone")
    store.names.set(BINDING, digest)
    with store.objects.exclusive():
        store.objects.discard([digest], unused_since_s=1e12)
    library = Library(store, ())
    library.refresh()
    assert library.current_binding is None
    with pytest.raises(ObjectMissing):
        library.binding(str(digest))


def test_following_outlives_a_store_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving.server, "FOLLOW_S", 0.0)
    answers: Iterator[Any] = iter(
        [StoreUnavailable("the disk says no"), StoreUnavailable("the disk says no"), True]
    )

    class Follower(Server):
        def __init__(self) -> None:
            self._library: Any = self

        def refresh(self) -> bool:
            answer = next(answers)
            if isinstance(answer, StoreError):
                raise answer
            return bool(answer)

        def _warm_up(self) -> None:
            raise asyncio.CancelledError

    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        asyncio.run(Follower()._follow_store())
    assert caplog.text.count("the disk says no") == 1
    assert "promotions or bindings have changed" in caplog.text


def test_a_server_takes_up_work_beside_plans_of_another_version(tmp_path: Path) -> None:
    store = tmp_path / "store"
    lightbox("compile", "ct-body", "--no-measure", "--store", str(store))
    lightbox("promote", "ct-body", "--skip-check", "--store", str(store))
    with open_store(store) as opened:
        opened.names.set(promoted_name("local", "alien"), opened.objects.put(ALIENS[0]))
        opened.names.set(promoted_name("local", "new"), opened.objects.put(a_plan("levitate").to_bytes()))
        with LightboxServer(store=store) as server:
            opened.names.set(promoted_name("local", "late"), opened.objects.put(ALIENS[1]))
            plan = opened.objects.put(a_plan("levitate-more").to_bytes())
            opened.names.set(promoted_name("local", "later"), plan)
            client, until = server.client(), monotonic() + DEADLINE_S
            while "later" not in client.promoted():
                assert monotonic() < until
            assert set(client.promoted()) == {"alien", "ct-body", "late", "later", "new"}
            while not all(pool["warm"] for pool in client.status()["pools"].values()):
                assert monotonic() < until
            assert client.status()["receiver"] == {"restarts": 0}
            assert server.is_running()
