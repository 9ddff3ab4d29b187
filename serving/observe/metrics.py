"""Every metric of the server, in one registry of one process. Labels never carry patient data."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


class Metrics:
    """Counters and histograms, made once and passed to whoever counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.images = Counter(
            "lightbox_images_received", "Images acknowledged", ["tenant", "source"], registry=r
        )
        self.image_bytes = Counter("lightbox_image_bytes_received", "Bytes acknowledged", registry=r)
        self.refused_images = Counter(
            "lightbox_images_refused", "Images not acknowledged", ["reason"], registry=r
        )
        self.rejected_associations = Counter(
            "lightbox_associations_rejected",
            "Associations and STOW-RS requests refused as a whole",
            ["reason"],
            registry=r,
        )
        self.series = Counter("lightbox_series_complete", "Series completed", ["reason"], registry=r)
        self.jobs = Counter("lightbox_jobs", "Jobs ended", ["pipeline", "state"], registry=r)
        self.jobs_active = Gauge("lightbox_jobs_active", "Jobs not ended", registry=r)
        self.time_to_result = Histogram(
            "lightbox_time_to_result_seconds",
            "From the last image to the stored result",
            ["pipeline"],
            buckets=_SECONDS,
            registry=r,
        )
        self.stage_runs = Counter("lightbox_stage_runs", "Stage runs finished", ["stage", "pool"], registry=r)
        self.stage_seconds = Counter(
            "lightbox_stage_seconds", "Wall time of stage runs", ["stage", "pool"], registry=r
        )
        self.stage_cpu_seconds = Counter(
            "lightbox_stage_cpu_seconds", "CPU time of stage runs", ["stage", "pool"], registry=r
        )
        self.runs_lost = Counter("lightbox_runs_lost", "Stage runs lost with their process", registry=r)
        self.deliveries = Counter(
            "lightbox_deliveries", "Attempts to send a result", ["destination", "state"], registry=r
        )

    def not_taken(self, what: Literal["image", "association"], reason: str) -> None:
        """Count what a front door refused; `reason` is one of few words."""
        counter = self.refused_images if what == "image" else self.rejected_associations
        counter.labels(reason).inc()

    def stage_finished(self, stage: str, pool: str, seconds: float, cpu_seconds: float) -> None:
        self.stage_runs.labels(stage, pool).inc()
        self.stage_seconds.labels(stage, pool).inc(seconds)
        self.stage_cpu_seconds.labels(stage, pool).inc(cpu_seconds)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
