"""The one way in: what the front doors received is journalled here, and its series watched until complete."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from serving.config import Completeness
from serving.dicom.completeness import SeriesWatch
from serving.dicom.handover import Accepted, Outcome, refused
from serving.dicom.instance import ReceivedInstance
from serving.dicom.spool import Spool
from serving.errors import DuplicateDiffers, NoCapacity
from serving.jobs import instances
from serving.jobs.database import Database, JournalError
from serving.jobs.instances import Arrival
from serving.observe.metrics import Metrics

log = logging.getLogger(__name__)

SeriesComplete: TypeAlias = Callable[[str, str, str, float], Awaitable[None]]
"""(tenant, Series Instance UID, reason, time of the last image since the epoch)"""

LOOK_S = 0.05
"""How often watched series are looked at: little beside the quiet time, nothing beside a job."""

SeriesKey: TypeAlias = tuple[str, str]
"""(tenant, Series Instance UID)"""


class Intake:
    """Journals instances, then watches their series. Lives on the main loop."""

    def __init__(
        self,
        database: Database,
        settings: Completeness,
        metrics: Metrics,
        series_complete: SeriesComplete,
    ) -> None:
        self._database, self._settings, self._metrics = database, settings, metrics
        self._series_complete = series_complete
        self._watched: dict[SeriesKey, SeriesWatch] = {}
        self._series_of: dict[str, set[SeriesKey]] = {}
        """Of each open association."""

    async def receive(self, received: Sequence[ReceivedInstance]) -> Sequence[Outcome]:
        """Journal durable files in one commit; the answers may be sent on when this returns."""
        now = time.time()
        try:
            arrivals = await self._database.write(
                lambda connection: instances.add_received(connection, received, now)
            )
        except (JournalError, sqlite3.Error) as error:
            log.error("images could not be journalled: %s", error)
            self._metrics.refused_images.labels("journal").inc(len(received))
            return [refused(NoCapacity("The journal cannot be written."))] * len(received)
        for instance, arrival in zip(received, arrivals, strict=True):
            if arrival is Arrival.CLASHES:
                self._metrics.refused_images.labels("clashes").inc()
                continue
            self._metrics.images.labels(instance.tenant, instance.source).inc()
            self._metrics.image_bytes.inc(instance.size)
            self._watch(instance)  # also what was here before: a pipeline may have been promoted since
        return [_outcome(arrival) for arrival in arrivals]

    async def association_closed(self, association: str) -> None:
        """The sender of these images is done."""
        for key in self._series_of.pop(association, ()):
            if key in self._watched:
                self._watched[key].association_closed(association, time.monotonic())

    async def sweep(self, spool: Spool) -> None:
        """Set files apart that nobody acknowledged: before any receiver starts."""
        known = await self._database.read(instances.known_paths)
        moved = await asyncio.to_thread(spool.sweep, lambda path: str(path) in known)
        if moved:
            log.warning("%d files unknown to the journal were moved to %s-unclaimed", moved, spool.root)

    async def resume(self) -> None:
        """Watch series again that were being received when the server stopped; their senders are gone."""
        for series in await self._database.read(instances.receiving_series):
            images = await self._database.read(
                lambda connection, s=series: instances.find(  # type: ignore[misc]
                    connection, s.tenant, series=s.series_instance_uid
                )
            )
            now_s = time.monotonic()
            watch = SeriesWatch(self._settings, now_s)
            for image in images:
                watch.image_arrived(image.sop_instance_uid, image.attributes, "before", now_s)
            watch.association_closed("before", now_s)
            self._watched.setdefault((series.tenant, series.series_instance_uid), watch)

    async def run(self) -> None:
        """Look at the watched series until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            for key, watch in list(self._watched.items()):
                reason = watch.complete(now_s)
                if reason is not None:
                    del self._watched[key]
                    await self._complete(key, watch, reason, now_s)

    async def _complete(self, key: SeriesKey, watch: SeriesWatch, reason: str, now_s: float) -> None:
        last_image_at = time.time() - (now_s - watch.last_image_s)
        try:
            await self._series_complete(*key, reason, last_image_at)
        except (JournalError, sqlite3.Error) as error:
            log.error("a series could not be completed, tried again: %s", error)
            self._watched.setdefault(key, watch)
        except Exception as error:  # one series must not take the server down; its images are kept
            log.error("a series could not be completed: %s", type(error).__name__, exc_info=True)

    def _watch(self, instance: ReceivedInstance) -> None:
        key = (instance.tenant, instance.series_instance_uid)
        now_s = time.monotonic()
        watch = self._watched.get(key)
        if watch is None:
            watch = self._watched[key] = SeriesWatch(self._settings, now_s)
        watch.image_arrived(instance.sop_instance_uid, instance.attributes, instance.association, now_s)
        self._series_of.setdefault(instance.association, set()).add(key)


def _outcome(arrival: Arrival) -> Outcome:
    if arrival is Arrival.CLASHES:
        return refused(DuplicateDiffers("SOP Instance UID (0008,0018) is that of a result made here."))
    return Accepted(duplicate=arrival is Arrival.SAME)
