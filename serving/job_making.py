"""A complete series becomes jobs: routed, checked against each pipeline's contract, journalled, submitted."""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from models.contract import Contract
from models.operators.base import JobContext
from models.values import Series
from object_store.errors import StoreError
from planner.plan import Plan
from planner.ways import said_ways
from serving import __version__
from serving.config import Route
from serving.dicom.routing import match_routes
from serving.jobs import instances, jobs
from serving.jobs.database import Database
from serving.jobs.instances import InstanceRow
from serving.jobs.jobs import JobRecord, JobState
from serving.library import Library
from serving.observe.metrics import Metrics
from serving.scheduler.engine import Engine
from serving.scheduler.events import Priority
from serving.scheduler.tasks import JobOrder, make_order
from serving.series_facts import facts_of, input_digest, litres_of, mixture_of, series_of, voxels_of

log = logging.getLogger(__name__)

NO_PIPELINE = "-"
"""The pipeline of a job record that says why a series was given to none."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What completing a series led to: every record, and the orders for those that are to run."""

    records: tuple[JobRecord, ...]
    orders: tuple[JobOrder, ...]


class JobMaker:
    """Makes jobs of complete series, and again of unfinished ones after a restart."""

    def __init__(
        self,
        database: Database,
        library: Library,
        engine: Engine,
        routes: Sequence[Route],
        metrics: Metrics,
    ) -> None:
        self._database, self._library, self._engine = database, library, engine
        self._routes, self._metrics = tuple(routes), metrics

    async def series_complete(self, tenant: str, series_uid: str, reason: str, last_image_at: float) -> None:
        """Mark the series complete and start a job for each pipeline it is routed to, in one commit."""

        def change(connection: sqlite3.Connection) -> _Made:
            images = [
                image
                for image in instances.find(connection, tenant, series=series_uid)
                if image.kind == "received"
            ]
            instances.set_complete(connection, tenant, series_uid, reason)
            if not images:
                return _Made((), ())
            made = self._make(images, last_image_at)
            series = series_of(images)
            jobs.add_input(connection, tenant, input_digest(series), series, voxels_of(images))
            new = {record.id for record in made.records if jobs.add(connection, record)}
            return _Made(
                tuple(record for record in made.records if record.id in new),
                tuple(order for order in made.orders if order.job.id in new),
            )

        made = await self._database.write(change)
        self._metrics.series.labels(reason).inc()
        for record in made.records:
            log.info("job %s: %s %s %s", record.id, record.pipeline, record.state, record.message)
            if record.state in jobs.ENDED:
                self._metrics.jobs.labels(record.pipeline, record.state).inc()
        self._engine.submit(made.orders)

    async def resume(self) -> None:
        """Submit every job that had not ended when the server stopped."""

        def unfinished(connection: sqlite3.Connection) -> list[tuple[JobRecord, Series, int]]:
            return [
                (record, *jobs.read_input(connection, record.tenant, record.input_digest))
                for record in jobs.unfinished(connection)
            ]

        orders = []
        for record, series, voxels in await self._database.read(unfinished):
            try:
                orders.append(self._order(record, self._library.plan(record.plan), series, voxels))
            except (StoreError, KeyError) as error:
                message = f"the plan or binding it began with is gone from the store: {error}"
                await self._fail(record.id, message)
        if orders:
            log.info("%d jobs go on where they stopped", len(orders))
        self._engine.submit(orders)

    async def _fail(self, job: str, message: str) -> None:
        now = time.time()
        await self._database.write(
            lambda connection: jobs.set_ended(
                connection, job, JobState.FAILED, now, reason="plan-missing", message=message
            )
        )

    def _make(self, images: Sequence[InstanceRow], last_image_at: float) -> _Made:
        tenant = images[0].tenant
        series = series_of(images)
        promotions = {p.pipeline: p.plan for p in self._library.promotions(tenant)}
        routing = match_routes(images[0].attributes, tenant, tuple(promotions), self._routes)
        records, orders = [], []
        for pipeline in routing.pipelines:
            record = self._record(images, series, pipeline, promotions[pipeline], last_image_at)
            try:
                plan = self._library.plan(record.plan)
                refusal = _refusal(images, plan)
                order = None
                if refusal is None:
                    order = self._order(record, plan, series, voxels_of(images), litres_of(images))
                    refusal = _too_large(order, self._engine.state.limits.memory_bytes)
                if refusal is not None:
                    record = _ended(record, JobState.REFUSED, *refusal)
                elif order is not None:
                    orders.append(order)
            except (StoreError, KeyError) as error:
                record = _ended(record, JobState.FAILED, "plan-missing", f"not in the store: {error}")
            records.append(record)
        if not routing.pipelines:
            record = self._record(images, series, NO_PIPELINE, "", last_image_at)
            records.append(_ended(record, JobState.REFUSED, "no-route", routing.reason))
        return _Made(tuple(records), tuple(orders))

    def _record(
        self,
        images: Sequence[InstanceRow],
        series: Series,
        pipeline: str,
        plan: str,
        last_image_at: float,
    ) -> JobRecord:
        first = images[0]
        digest = input_digest(series)
        binding = self._library.current_binding or ""
        device = ""
        if plan and binding:
            device = str(self._library.binding(binding).machine.get("cpu", ""))
        identity = f"{first.tenant}\n{pipeline}\n{plan}\n{digest}"
        return JobRecord(
            id=hashlib.sha256(identity.encode()).hexdigest()[:20],
            tenant=first.tenant,
            study_instance_uid=first.study_instance_uid,
            series_instance_uid=first.series_instance_uid,
            input_digest=digest,
            pipeline=pipeline,
            plan=plan,
            binding=binding,
            software_version=__version__,
            device=device,
            state=JobState.QUEUED,
            created_at=time.time(),
            last_image_at=last_image_at,
        )

    def _order(
        self, record: JobRecord, plan: Plan, series: Series, voxels: int, litres: float | None = None
    ) -> JobOrder:
        """litres: None for a job that goes on after a restart: what was kept of its series does not tell."""
        binding = self._library.binding(record.binding)
        return make_order(
            job_id=record.id,
            plan=plan,
            plan_digest=record.plan,
            binding=binding,
            series=series,
            voxels=voxels,
            litres=litres,
            input_digest=record.input_digest,
            context=JobContext(
                tenant=record.tenant,
                plan=record.plan,
                binding=record.binding,
                pipeline=record.pipeline,
                pipeline_version=plan.version,
                created=datetime.fromtimestamp(record.created_at, UTC),
                device=record.device,
                software_version=record.software_version,
                networks=said_ways(plan, binding),
            ),
            priority=Priority.ROUTINE,
            submitted_s=record.created_at,
        )


def _refusal(images: Sequence[InstanceRow], plan: Plan) -> tuple[str, str] | None:
    """Why these images cannot be given to a plan, as (reason, sentence); None if they can."""
    if mixture := mixture_of(images):
        return mixture
    violations = Contract(**plan.contract).violations(facts_of(images))
    if violations:
        return violations[0].reason, "; ".join(violation.message for violation in violations)
    return None


def _too_large(order: JobOrder, limit: int) -> tuple[str, str] | None:
    if order.job.peak_bytes <= limit:
        return None
    needed, allowed = order.job.peak_bytes / 1e9, limit / 1e9
    return (
        "too-large",
        f"the job is planned to need {needed:.1f} GB of memory; pools.memory_bytes allows {allowed:.1f} GB",
    )


def _ended(record: JobRecord, state: JobState, reason: str, message: str) -> JobRecord:
    return replace(record, state=state, reason=reason, message=message, finished_at=record.created_at)
