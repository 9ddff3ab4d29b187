"""`lightbox compile`: pipelines into plans, and all plans of the store into one binding."""

from typing import Annotated

import typer

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
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

        read = [read_pipeline(pipeline_path(name)) for name in pipelines]
        with progress("pipelines", len(read)) as planned, progress("measuring stages") as measured:
            costing = without_measuring if no_measure else measured_costs(opened, measured=measured)
            compiled = compile_pipelines(opened, read, costing=costing, planned=planned)
        current = current_binding(opened)
        assert current is not None  # compiling made one
        digest, binding = current
        rows = []
        for one in compiled:
            stages = binding.stages_of(str(one.digest))
            rows.append(
                {
                    "pipeline": one.plan.pipeline,
                    "version": one.plan.version,
                    "plan": str(one.digest),
                    "new": one.new,
                    "stages": len(stages),
                    "shared_stages": sum(len(stage.plans) > 1 for stage in stages),
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
        print_line(f"binding {short(str(digest))}: {len(binding.stages)} stages, {len(binding.plans)} plans")
