"""`lightbox compile`: pipelines into plans, and all plans of the store into one binding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
    counted,
    fail,
    opened_store,
    print_json,
    print_line,
    print_table,
    progress,
    short,
)


def compile_command(
    pipelines: Annotated[list[str], typer.Argument(help="YAML files, or names of bundled pipelines.")],
    store: StoreOption = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Keep guesses for costs.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compile pipelines into the store; what they share with those already there is found and shown."""
    with command_errors(), opened_store(store) as opened:
        from models.pipeline_file import pipeline_path, read_pipeline
        from planner.bind import without_measuring
        from planner.compile import compile_pipelines
        from planner.cost import measured_costs
        from planner.live import current_binding

        with _none_of(len(pipelines)):
            paths = [pipeline_path(name) for name in pipelines]
            read = [read_pipeline(path) for path in paths]
            with progress("pipelines", len(read)) as planned, progress("measuring stages") as measured:
                costing = without_measuring if no_measure else measured_costs(opened, measured=measured)
                with _located(paths, planned) as made:
                    compiled = compile_pipelines(opened, read, costing=costing, planned=made)
        current = current_binding(opened)
        assert current is not None  # compiling made one
        digest, binding = current
        rows = []
        for one in compiled:
            its_stages = binding.stages_of(str(one.digest))
            rows.append(
                {
                    "pipeline": one.plan.pipeline,
                    "version": one.plan.version,
                    "plan": str(one.digest),
                    "new": one.new,
                    "stages": len(its_stages),
                    "shared_stages": sum(len(stage.plans) > 1 for stage in its_stages),
                }
            )
        if as_json:
            print_json({"plans": rows, "binding": str(digest), "stages": len(binding.stages)})
            return
        print_table(
            ("pipeline", "version", "plan", "", "stages>", "shared>"),
            [
                (
                    row["pipeline"],
                    row["version"],
                    short(str(row["plan"])),
                    "new" if row["new"] else "as before",
                    row["stages"],
                    row["shared_stages"],
                )
                for row in rows
            ],
        )
        stages, plans = counted(len(binding.stages), "stage"), counted(len(binding.plans), "plan")
        print_line(f"binding {short(str(digest))}: {stages}, {plans}")


@contextmanager
def _none_of(number: int) -> Iterator[None]:
    """Where one of several pipelines cannot be compiled: says that the others were not, either."""
    from models.errors import PipelineError

    try:
        yield
    except PipelineError as error:
        if number == 1:
            raise
        fail(f"{error}\nlightbox: so none of the {number} pipelines was compiled; the store's are as before")


@contextmanager
def _located(paths: Sequence[Path], planned: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Gives what compiling is to tell of each plan made; its errors then say in which file and line."""
    from models.errors import PipelineError
    from models.pipeline_file import located

    made: list[str] = []

    def told(pipeline: str) -> None:
        made.append(pipeline)
        planned(pipeline)

    try:
        yield told
    except PipelineError as error:
        if len(made) == len(paths):
            raise
        raise located(error, paths[len(made)]) from error  # plans are made one after the other
