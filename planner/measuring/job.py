"""The job that stages are measured for: no real one."""

from datetime import UTC, datetime

from models.operators.base import JobContext

JOB = JobContext(
    tenant="local",
    plan="sha256:" + "0" * 64,
    binding="sha256:" + "0" * 64,
    pipeline="cost",
    pipeline_version="1",
    created=datetime(2024, 1, 1, tzinfo=UTC),
    device="cpu",
    software_version="0",
)
