"""How every command speaks: tables or JSON on stdout, one sentence per error on stderr, exit codes.

0: done; 1: done, and the answer is no (a check failed, two pipelines differ); 2: wrong usage or input.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from object_store.opening import Store

NO = 1
"""Exit code of a command that worked and whose answer is no."""

WRONG = 2
"""Exit code for wrong usage, wrong input, or something missing."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="The object store.  [default: that of --config]")
]
TenantOption = Annotated[str, typer.Option("--tenant", metavar="T", help="Whose name it is.")]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_line(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table on stdout; columns whose names end with `>` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.removesuffix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 240  # a file has no margin; nothing is folded
    with console.capture() as captured:
        console.print(table)
    print_line("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, or lines if that is no terminal. Gives a function to call with a label at each step
    done."""
    if not sys.stderr.isatty():
        yield step_lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def step(label: str) -> None:
            bar.update(task, advance=1, description=f"{what}: {label}" if label else what)

        yield step


_SILENT_S = 5.0
"""How long nothing is said where stderr is no terminal: what is done sooner says nothing, as programs do."""


def step_lines(
    what: str, total: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], None]:
    """A function to call with a label at each step done, which says so on stderr every few seconds."""
    began = said_at = clock()
    done = 0

    def step(label: str) -> None:
        nonlocal said_at, done
        done += 1
        if clock() - said_at >= _SILENT_S:
            said_at = clock()
            of = "" if total is None else f" of {total}"
            sys.stderr.write(
                f"[{said_at - began:5.0f} s] {what}, step {done}{of}: {label}".rstrip(": ") + "\n"
            )
            sys.stderr.flush()

    return step


@contextlib.contextmanager
def spoken() -> Iterator[Callable[[str], None]]:
    """For what takes minutes in steps nobody knows beforehand: a function to say on stderr what was found."""
    began = time.monotonic()

    def say(sentence: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:5.0f} s] {sentence}\n")
        sys.stderr.flush()

    yield say


@contextlib.contextmanager
def command_errors() -> Iterator[None]:
    """Errors that a person can act on become one sentence on stderr and exit code 2, or 1 for a plain no."""
    from models.errors import ModelsError
    from object_store.errors import ObjectCorrupt, ObjectMissing, StoreError
    from planner.errors import NotChecked, PlannerError
    from serving.config import ConfigError

    try:
        yield
    except NotChecked as error:
        fail(str(error), NO)
    except (ObjectMissing, ObjectCorrupt) as error:
        fail(f"{error}; `lightbox store verify` says what else is damaged, and of which network it is")
    except (ModelsError, StoreError, PlannerError, ConfigError) as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "onnx":
            raise
        fail(
            "this opens networks, which needs the planner's extra: "
            "pip install -e '.[planner]' in Lightbox's folder"
        )
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(sentence: str, code: int = WRONG) -> NoReturn:
    """Say what is wrong and leave with this exit code."""
    sys.stderr.write(f"lightbox: {sentence}\n")
    raise typer.Exit(code)


@contextlib.contextmanager
def opened_store(directory: Path | None, *, must_exist: bool = False) -> Iterator["Store"]:
    """The store in `directory`, or the configured one; whatever is read from it is verified.

    must_exist: for commands that only look: a `directory` without a store is an error, and none is made.
    """
    from object_store.opening import is_store, open_store

    if directory is None:
        from serving.cli.configured import configuration

        directory = configuration().store_path
    elif must_exist and not is_store(directory):
        fail(f"there is no store in {directory}; `lightbox compile` and `lightbox network add` make one")
    with open_store(directory, verify_on_read=True) as store:
        yield store


def said_bytes(number: float) -> str:
    """A size for people: `12.3 MB`."""
    if abs(number) < 1000:
        return f"{number:.0f} B"
    for unit in ("KB", "MB"):
        number /= 1000
        if abs(number) < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} GB"


def said_seconds(seconds: float) -> str:
    """A duration for people: `850 ms`, `3.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def few(names: Sequence[str]) -> str:
    """`a, b, c and 15 more`."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def counted(number: int, thing: str) -> str:
    """`1 network`, `3 networks`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def short(digest: str) -> str:
    """The first twelve digits of a digest: enough to tell plans apart by eye."""
    return digest.removeprefix("sha256:")[:12]
