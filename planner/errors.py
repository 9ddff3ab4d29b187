"""The error tree of `planner`.

PlannerError
├── UnknownPipeline    a name that was never compiled into this store
├── UnknownNetwork     a name or digest that no network in this store has
├── NotPromoted        a tenant has no plan of that name
├── NotChecked         promotion without a passed golden check
├── NotTunable         a pipeline with nothing to tune, or nothing to judge it by
├── CannotCompute      a plan that this version of Lightbox has no operators for
├── Unreadable         bytes in the store that are no plan or binding of ours (a StoreError as well)
└── RuleBroke          a rewrite rule changed what it promised to keep: our bug, named
"""

from object_store.errors import StoreError


class PlannerError(Exception):
    """Root of everything `planner` raises on purpose."""


class UnknownPipeline(PlannerError):
    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        super().__init__(f"pipeline '{pipeline}' has not been compiled into this store")


class UnknownNetwork(PlannerError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no network in this store that '{name}' is or runs")


class NotPromoted(PlannerError):
    def __init__(self, tenant: str, pipeline: str) -> None:
        self.tenant, self.pipeline = tenant, pipeline
        super().__init__(f"tenant '{tenant}' has no promoted pipeline '{pipeline}'")


class NotChecked(PlannerError):
    """`failures` are the sentences of the check that did not pass."""

    def __init__(self, pipeline: str, failures: tuple[str, ...]) -> None:
        self.pipeline, self.failures = pipeline, failures
        super().__init__(f"pipeline '{pipeline}' did not pass its golden cases: {'; '.join(failures)}")


class CannotCompute(PlannerError):
    def __init__(self, pipeline: str, why: str) -> None:
        self.pipeline = pipeline
        super().__init__(f"the plan of '{pipeline}' cannot be computed by this version of Lightbox: {why}")


class NotTunable(PlannerError):
    def __init__(self, pipeline: str, why: str) -> None:
        self.pipeline = pipeline
        super().__init__(f"'{pipeline}' cannot be tuned: {why}")


class Unreadable(PlannerError, StoreError):
    """What lies under `digest` was written by another version of Lightbox, or is something else."""

    def __init__(self, digest: str, why: str) -> None:
        super().__init__(digest, why)
        self.digest, self.why = digest, why

    def __str__(self) -> str:
        return f"{self.digest} in the store is nothing that this version of Lightbox reads: {self.why}"


class RuleBroke(PlannerError):
    def __init__(self, rule: str, what: str) -> None:
        self.rule = rule
        super().__init__(f"rule {rule} {what}")
