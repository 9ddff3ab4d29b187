"""`lightbox promote`, `lightbox rollback`: which plan a tenant runs under a pipeline's name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.configured import check_tenant
from serving.cli.output import (
    JsonFlag,
    StoreOption,
    TenantOption,
    command_errors,
    opened_store,
    print_json,
    print_line,
    progress,
    short,
)

if TYPE_CHECKING:
    from object_store.digest import Digest
    from object_store.opening import Store
    from planner.plan import Plan
    from planner.promote import Promotion


def promote_command(
    pipelines: Annotated[list[str], typer.Argument(help="Names of compiled pipelines.")],
    tenant: TenantOption = "local",
    store: StoreOption = None,
    skip_check: Annotated[bool, typer.Option(help="Promote without golden cases.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Let a tenant run pipelines as compiled last. A running server follows; jobs end as they began."""
    with command_errors(), _store_of(tenant, store) as opened:
        from planner.promote import promote

        with progress("golden cases") as checked:

            def gate(digest: "Digest", plan: "Plan") -> tuple[str, ...]:
                return _failures(opened, digest, plan, checked)

            chosen = None if skip_check else gate
            promoted = [promote(opened, tenant, name, gate=chosen) for name in pipelines]
        _print(promoted, "runs", as_json)


def rollback_command(
    pipelines: Annotated[list[str], typer.Argument(help="Names of promoted pipelines.")],
    tenant: TenantOption = "local",
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a tenant run again what it ran before the last promotion."""
    with command_errors(), _store_of(tenant, store) as opened:
        from planner.promote import rollback

        _print([rollback(opened, tenant, name) for name in pipelines], "runs again", as_json)


@contextlib.contextmanager
def _store_of(tenant: str, directory: Path | None) -> Iterator["Store"]:
    """The store, once the tenant's name is known to be one: a named store may serve another configuration."""
    check_tenant(tenant, configured=directory is None)
    with opened_store(directory) as store:
        yield store


def _failures(store: "Store", digest: "Digest", plan: "Plan", checked: object) -> tuple[str, ...]:
    """What the golden cases say: as recorded on this machine model, else run now."""
    from planner.check import check_plan, recorded_check

    report = recorded_check(store, digest, plan)
    if report is None or not report.passed:
        report = check_plan(store, digest, plan, checked=checked)  # type: ignore[arg-type]
    return report.failures


def _print(promotions: "list[Promotion]", verb: str, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "tenant": promotion.tenant,
                    "pipeline": promotion.pipeline,
                    "plan": str(promotion.plan),
                    "since": promotion.since.isoformat(),
                }
                for promotion in promotions
            ]
        )
        return
    for promotion in promotions:
        print_line(f"{promotion.tenant} {verb} {promotion.pipeline} as plan {short(str(promotion.plan))}")
