"""What operators and clients ask over HTTP: jobs, results, health, metrics. JSON unless said otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from serving.errors import NotFound
from serving.jobs import deliveries, instances, jobs
from serving.jobs.database import Database
from serving.jobs.jobs import JobRecord, ResultRecord
from serving.library import Library
from serving.observe.metrics import Metrics
from serving.scheduler.engine import Engine

TenantOf = Callable[[Request], str]
"""Whose request this is. Raises NotAuthenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """What the endpoints ask."""

    database: Database
    library: Library
    engine: Engine
    metrics: Metrics
    tenant_of: TenantOf
    is_ready: Callable[[], dict[str, bool]]
    """Each part of the server, and whether it is up."""
    status: Callable[[], dict[str, Any]]


def health_router(services: ApiServices) -> APIRouter:
    """/healthz, /readyz and /metrics: for probes and Prometheus; they tell nothing of any tenant's data."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """200 while the process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """200 once every part is up and studies are taken; 503 before, and while stopping."""
        parts = services.is_ready()
        response.status_code = 200 if all(parts.values()) else 503
        return {"ready": all(parts.values()), "parts": parts}

    @router.get("/metrics")
    async def metrics() -> Response:
        """The Prometheus text format."""
        services.metrics.jobs_active.set(len(services.engine.jobs))
        return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def api_router(services: ApiServices) -> APIRouter:
    """/api: what a tenant may see of its own."""
    router = APIRouter(prefix="/api")

    def asking(request: Request) -> str:
        return services.tenant_of(request)

    Tenant = Annotated[str, Depends(asking)]  # noqa: N806 - a type
    database = services.database

    @router.get("/status")
    async def status(tenant: Tenant) -> dict[str, Any]:
        """What runs here, and what is promoted for the asking tenant."""
        promoted = [{"pipeline": p.pipeline, "plan": p.plan} for p in services.library.promotions(tenant)]
        return {**services.status(), "tenant": tenant, "promoted": promoted}

    @router.get("/jobs")
    async def list_jobs(
        tenant: Tenant,
        study: str | None = None,
        series: str | None = None,
        state: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> list[dict[str, Any]]:
        """Jobs, newest first, with their results."""

        def query(connection: Any) -> list[dict[str, Any]]:
            found = jobs.find(connection, tenant, study=study, series=series, state=state, limit=limit)
            return [_job(job, jobs.results_of(connection, tenant, job.id)) for job in found]

        return await database.read(query)

    @router.get("/jobs/{job_id}")
    async def one_job(tenant: Tenant, job_id: str) -> dict[str, Any]:
        """One job, with its results, the stages that ran for it and where its results were sent."""

        def query(connection: Any) -> dict[str, Any] | None:
            found = jobs.find(connection, tenant, job=job_id)
            if not found:
                return None
            sent = [
                {"destination": d.destination, "state": d.state, "attempts": d.attempts, "message": d.message}
                for d in deliveries.of_job(connection, tenant, job_id)
            ]
            return {
                **_job(found[0], jobs.results_of(connection, tenant, job_id)),
                "stages": found[0].stages,
                "deliveries": sent,
            }

        answer = await database.read(query)
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        return answer

    @router.get("/jobs/{job_id}/results/{output}")
    async def one_result(tenant: Tenant, job_id: str, output: str) -> FileResponse:
        """The DICOM SEG of one output, as application/dicom."""

        def query(connection: Any) -> str | None:
            for result in jobs.results_of(connection, tenant, job_id):
                if result.output == output:
                    (row,) = instances.find(connection, tenant, sop=result.sop_instance_uid)
                    return row.path
            return None

        path = await database.read(query)
        if path is None:
            raise NotFound(f"job {job_id} has no result '{output}'")
        if not Path(path).is_file():
            raise NotFound(f"the file of result '{output}' of job {job_id} is gone from the disk")
        return FileResponse(path, media_type="application/dicom")

    return router


def _job(job: JobRecord, results: list[ResultRecord]) -> dict[str, Any]:
    finished = job.finished_at
    return {
        "id": job.id,
        "tenant": job.tenant,
        "pipeline": job.pipeline,
        "plan": job.plan,
        "binding": job.binding,
        "state": job.state,
        "reason": job.reason,
        "message": job.message,
        "warnings": list(job.warnings),
        "study_instance_uid": job.study_instance_uid,
        "series_instance_uid": job.series_instance_uid,
        "last_image_at": job.last_image_at,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": finished,
        "time_to_result_s": None if finished is None else finished - job.last_image_at,
        "results": [
            {
                "output": result.output,
                "sop_instance_uid": result.sop_instance_uid,
                "series_instance_uid": result.series_instance_uid,
                "measurements": [
                    {"segment": m.segment, "quantity": m.quantity, "value": m.value, "unit": m.unit}
                    for m in result.measurements
                ],
            }
            for result in results
        ],
    }
