"""What a job leaves: result objects on disk, measurements and the end of the job in one commit."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from models.values import Measurements, Segmentation
from serving.config import Destination
from serving.dicom.header import file_meta
from serving.dicom.instance import ReceivedInstance, read_header, received_instance
from serving.dicom.spool import Spool, new_association
from serving.errors import NoCapacity
from serving.jobs import deliveries, instances, jobs
from serving.jobs.database import Database, JournalError
from serving.jobs.jobs import JobState, ResultRecord
from serving.observe.metrics import Metrics
from serving.pools.shared_values import SharedValue, read_value
from serving.scheduler.engine import JobOutcome

log = logging.getLogger(__name__)

RETRY_S, MAX_RETRY_S = 1.0, 60.0
"""Between attempts to keep the end of a job while the disk is full; doubling. A guess."""


class Results:
    """Writes how jobs started and ended. `on_result` is called when there is something to deliver."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        destinations: Sequence[Destination],
        metrics: Metrics,
        on_result: Callable[[], None],
    ) -> None:
        self._database, self._spool = database, spool
        self._destinations, self._metrics = tuple(destinations), metrics
        self._on_result = on_result

    async def job_started(self, job: str) -> None:
        """Journal that a job runs; for people to see, so a journal that cannot be written only costs that."""
        now = time.time()
        try:
            await self._database.write(lambda connection: jobs.set_running(connection, job, now))
        except (JournalError, sqlite3.Error) as error:
            log.error("the start of job %s could not be journalled: %s", job, error)

    async def job_ended(self, outcome: JobOutcome) -> None:
        """Everything the job made is on disk and journalled when this returns.

        While the disk or the journal takes nothing, it tries again: what was computed is not thrown away, and
        if the server is stopped meanwhile the job runs again at the next start.
        """
        wait_s = RETRY_S
        while True:
            try:
                await self._write_end(outcome)
                break
            except (NoCapacity, JournalError, sqlite3.Error) as error:
                log.error("the end of job %s cannot be kept, tried again: %s", outcome.order.job.id, error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_RETRY_S)
        self._on_result()

    async def _write_end(self, outcome: JobOutcome) -> None:
        if outcome.refused is not None:
            await self._end(outcome, JobState.REFUSED, *outcome.refused)
        elif outcome.failed is not None:
            await self._end(outcome, JobState.FAILED, "stage-failed", outcome.failed)
        else:
            try:
                await self._complete(outcome)
            except (NoCapacity, JournalError, sqlite3.Error):
                raise
            except Exception as error:  # what was computed is no result; the server goes on
                log.error("job %s left no result", outcome.order.job.id, exc_info=True)
                message = f"what was computed could not be kept as a result: {type(error).__name__}"
                await self._end(outcome, JobState.FAILED, "result-unusable", message)

    async def _complete(self, outcome: JobOutcome) -> None:
        context, plan = outcome.order.context, outcome.order.plan
        values = dict(outcome.values)
        stored: list[ReceivedInstance] = []
        records: list[ResultRecord] = []
        said: list[str] = []
        for output in plan.outputs:
            shared = values[output.segmentation]
            instance = await asyncio.to_thread(self._store, shared, context.tenant)
            said.extend(shared.notes)
            measured: Measurements | None = None
            if output.measurements is not None:
                value = read_value(values[output.measurements])
                assert isinstance(value, Measurements)
                measured = value
            stored.append(instance)
            records.append(
                ResultRecord(
                    tenant=context.tenant,
                    job=outcome.order.job.id,
                    output=output.name,
                    sop_instance_uid=instance.sop_instance_uid,
                    series_instance_uid=instance.series_instance_uid,
                    measurements=measured.items if measured else (),
                )
            )
        message = " ".join(dict.fromkeys(said))
        await self._end(outcome, JobState.COMPLETED, "", message, stored, records)

    def _store(self, shared: SharedValue, tenant: str) -> ReceivedInstance:
        value = read_value(shared)
        assert isinstance(value, Segmentation)
        folder = self._spool.folder(tenant, request := new_association())
        incoming = folder.begin()
        try:
            incoming.write(value.data)
            file = incoming.finish()
        finally:
            incoming.discard()
            folder.close()
        transfer_syntax_uid, start = file_meta(value.data)
        return received_instance(
            read_header(value.data, transfer_syntax_uid, start),
            tenant=tenant,
            transfer_syntax_uid=transfer_syntax_uid,
            path=str(file.path),
            digest=file.digest,
            size=file.size,
            source="result",
            association=request,
        )

    async def _end(
        self,
        outcome: JobOutcome,
        state: JobState,
        reason: str,
        message: str,
        stored: Sequence[ReceivedInstance] = (),
        records: Sequence[ResultRecord] = (),
    ) -> None:
        now = time.time()
        job, tenant = outcome.order.job.id, outcome.order.context.tenant
        targets = [d.name for d in self._destinations if d.tenant == tenant]
        uses = [{**asdict(use), "shared": use.ran_for != job} for use in outcome.uses]

        def change(connection: sqlite3.Connection) -> float:
            for instance in stored:
                instances.add_result(connection, instance, now)
                for target in targets:
                    deliveries.add(connection, tenant, job, instance.sop_instance_uid, target, now)
            for record in records:
                jobs.add_result(connection, record)
            jobs.set_ended(
                connection,
                job,
                state,
                now,
                reason=reason,
                message=message,
                warnings=[note for note in outcome.notes if note not in message],
                stages=uses,
            )
            (found,) = jobs.find(connection, tenant, job=job)
            return now - found.last_image_at

        seconds = await self._database.write(change)
        pipeline = outcome.order.plan.pipeline
        self._metrics.jobs.labels(pipeline, state).inc()
        if state is JobState.COMPLETED:
            self._metrics.time_to_result.labels(pipeline).observe(seconds)
        log.info("job %s: %s %s %s", job, pipeline, state, message)
