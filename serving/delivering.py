"""Sends results to their destinations, again and again until taken or given up; the journal remembers."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Sequence

from serving.config import Destination
from serving.dicom.delivery import DeliveryFailed, backoff_s, send_file
from serving.jobs import deliveries, instances
from serving.jobs.database import Database, JournalError
from serving.jobs.deliveries import DeliveryRecord, DeliveryState
from serving.observe.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often retries are looked for; a new result wakes the loop at once."""
AT_ONCE = 4
"""Sends side by side. A guess: destinations are few, and each send waits for the network."""


class Deliveries:
    """Works through pending deliveries. Lives on the main loop; sending runs in threads."""

    def __init__(self, database: Database, destinations: Sequence[Destination], metrics: Metrics) -> None:
        self._database, self._metrics = database, metrics
        self._destinations = {(d.tenant, d.name): d for d in destinations}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        if not self._destinations:
            return
        while True:
            try:
                if await self._send_due():
                    continue
            except (JournalError, sqlite3.Error) as error:  # the disk is full, for one: it may be freed
                log.error("deliveries could not be journalled: %s", error)
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_S)

    async def _send_due(self) -> bool:
        """Try everything that is due, a few at a time; whether there was any."""
        due = await self._database.read(lambda c: deliveries.due(c, time.time(), AT_ONCE))
        await asyncio.gather(*(self._attempt(record) for record in due))
        return bool(due)

    async def _attempt(self, record: DeliveryRecord) -> None:
        destination = self._destinations.get((record.tenant, record.destination))
        state, message, next_at = DeliveryState.DELIVERED, "", time.time()
        if destination is None:
            state, message = DeliveryState.DEAD, "the destination is no longer configured"
        else:
            try:
                await self._send(record, destination)
            except DeliveryFailed as failed:
                message = str(failed)
                last = record.attempts + 1 >= destination.attempts
                state = DeliveryState.DEAD if last else DeliveryState.PENDING
                next_at += backoff_s(destination, record.attempts)
                log.warning("delivery to %s: %s (%s)", record.destination, message, state)
        self._metrics.deliveries.labels(record.destination, state).inc()
        await self._database.write(lambda c: deliveries.attempted(c, record, state, next_at, message))

    async def _send(self, record: DeliveryRecord, destination: Destination) -> None:
        found = await self._database.read(
            lambda c: instances.find(c, record.tenant, sop=record.sop_instance_uid)
        )
        if not found:
            raise DeliveryFailed("the result is no longer stored")
        try:
            await asyncio.to_thread(send_file, found[0].path, destination)
        except DeliveryFailed:
            raise
        except Exception as error:  # the file or the library: this delivery failed, the server goes on
            raise DeliveryFailed(f"the result cannot be sent: {type(error).__name__}") from error
