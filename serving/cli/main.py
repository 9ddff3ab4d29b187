"""The `lightbox` command: every subcommand in one place, each module imported only for its signature."""

from typing import Annotated

import typer

from serving import __version__
from serving.cli.bench import bench_command
from serving.cli.calibrate import calibrate_command
from serving.cli.check import check_command
from serving.cli.compile import compile_command
from serving.cli.configured import ConfigOption, choose_config
from serving.cli.demo import demo_command
from serving.cli.diff import diff_command
from serving.cli.explain import explain_command
from serving.cli.jobs import jobs_command
from serving.cli.network import add_command, list_command
from serving.cli.phantom import phantom_command
from serving.cli.promote import promote_command, rollback_command
from serving.cli.results import results_command
from serving.cli.send import send_command
from serving.cli.serve import serve_command
from serving.cli.store import gc_command, ls_command, verify_command
from serving.cli.store_stats import stats_command
from serving.cli.tune import tune_command

app = typer.Typer(
    name="lightbox",
    help="A white-box prediction server for medical imaging.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("compile")(compile_command)
app.command("explain")(explain_command)
app.command("tune")(tune_command)
app.command("check")(check_command)
app.command("calibrate")(calibrate_command)
app.command("diff")(diff_command)
app.command("promote")(promote_command)
app.command("rollback")(rollback_command)
app.command("serve")(serve_command)
app.command("send")(send_command)
app.command("jobs")(jobs_command)
app.command("results")(results_command)
app.command("phantom")(phantom_command)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    bench_command
)
app.command("demo")(demo_command)

store = typer.Typer(help="Look after the object store.", no_args_is_help=True)
store.command("ls")(ls_command)
store.command("verify")(verify_command)
store.command("stats")(stats_command)
store.command("gc")(gc_command)
app.add_typer(store, name="store")

network = typer.Typer(help="Networks without a pipeline.", no_args_is_help=True)
network.command("add")(add_command)
network.command("list")(list_command)
app.add_typer(network, name="network")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lightbox {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """A white-box prediction server for medical imaging. Research use only."""
    choose_config(config)


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
