"""The receiver process as the server keeps it: it dies, and is there again under the same address."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pynetdicom import AE

from serving import front_door as front_door_module
from serving.config import Config, Dimse
from serving.dicom.handover import Accepted, Outcome
from serving.dicom.instance import ReceivedInstance
from serving.front_door import FrontDoor
from serving.intake import Intake
from serving.observe.metrics import Metrics
from serving.processes import start_fork_server
from serving.workplace import Workplace
from tests.dicom_front import ct_image

CT = "1.2.840.10008.5.1.4.1.1.2"


class Taking(Intake):
    """Takes every image, and notes which associations were closed."""

    def __init__(self) -> None:
        self.images: list[ReceivedInstance] = []
        self.closed: list[str] = []

    async def receive(self, received: Sequence[ReceivedInstance]) -> Sequence[Outcome]:
        self.images += received
        return [Accepted()] * len(received)

    async def association_closed(self, association: str) -> None:
        self.closed.append(association)


@asynccontextmanager
async def running_door(folder: Path) -> AsyncIterator[tuple[FrontDoor, Taking]]:
    config = Config(dimse=Dimse(port=0))
    place = Workplace(
        data=folder,
        spool=folder / "spool",
        results=folder / "results",
        journal=folder / "journal.sqlite",
        store=folder / "store",
        memory=folder / "memory",
        address_file=folder / "server.json",
    )
    intake = Taking()
    door = FrontDoor(config, place, start_fork_server(), intake)
    async with asyncio.TaskGroup() as tasks:
        await door.start(tasks)
        yield door, intake
        await door.stop()


async def until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


def kill(door: FrontDoor) -> None:
    assert door._process is not None
    assert door._process.pid is not None
    os.kill(door._process.pid, signal.SIGKILL)


def send_one(address: tuple[str, int]) -> None:
    """One image over one association, which is left open."""
    entity = AE()
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    association = entity.associate(*address, ae_title="LIGHTBOX")
    assert association.is_established
    assert association.send_c_store(ct_image()).Status == 0


def test_refusals_are_metrics_by_reason() -> None:
    metrics = Metrics()
    metrics.not_taken("image", "bad-dataset")
    metrics.not_taken("association", "called-ae-title")
    text = metrics.render().decode()
    assert 'lightbox_images_refused_total{reason="bad-dataset"} 1.0' in text
    assert 'lightbox_associations_rejected_total{reason="called-ae-title"} 1.0' in text


def test_a_receiver_that_dies_is_back_at_its_address_and_its_associations_are_closed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_door(tmp_path) as (door, intake):
            address = door.address
            assert door.is_open
            await asyncio.to_thread(send_one, address)
            assert intake.closed == []
            kill(door)
            await until(lambda: not door.is_open, "its death was not noticed")
            assert intake.closed == [intake.images[0].association]
            await until(lambda: door.is_open, "it was not started again")
            assert door.address == address
            await asyncio.to_thread(send_one, address)
            assert len(intake.images) == 2
            assert door.restarts == 1

    asyncio.run(scene())


def test_a_receiver_that_cannot_listen_is_tried_again_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(front_door_module, "RESTART_DELAY_S", 0.01)
    monkeypatch.setattr(front_door_module, "LONGEST_DELAY_S", 0.02)

    async def scene() -> None:
        async with running_door(tmp_path) as (door, _):
            kill(door)
            await until(lambda: not door.is_open, "its death was not noticed")
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                thief.bind(door.address)
                thief.listen()
                await until(lambda: door.restarts >= 3, "it was not tried again")
                assert not door.is_open
            await until(lambda: door.is_open, "it was not started when its port was free again")

    with caplog.at_level(logging.ERROR, "serving.front_door"):
        asyncio.run(scene())
    delays = [record.getMessage().rpartition(" in ")[2] for record in caplog.records]
    assert delays[:3] == ["0.01 s", "0.02 s", "0.02 s"]
