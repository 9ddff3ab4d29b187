"""What golden runs fed to a network, as cases to calibrate it with and others to judge it by."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.golden_runs import GoldenRun
from planner.networks.precision.cases import Case, halved
from planner.networks.structure import Structure


class NothingHeldOut(Exception):
    """A network cannot be calibrated with some of what it was fed and judged by the rest; says why."""


@dataclass(frozen=True, slots=True)
class GoldenCases:
    """note: which they are, where they are halves of the same images; else empty."""

    calibration: tuple[Case, ...]
    held_out: tuple[Case, ...]
    note: str = ""


def fed_cases(
    runs: Sequence[GoldenRun], network: str, structure: Structure, multiple_of: int = 1
) -> GoldenCases:
    """The runs that are held out apart from the others; where one kind did not feed the network, each in two.

    multiple_of: what the sides of what it is fed must be multiples of, as far as its step says.
    Raises: NothingHeldOut if no run fed it, or only in a way that cannot be cut in two.
    """
    fed = [run for run in runs if run.fed.get(network)]
    if not fed:
        raise NothingHeldOut("no golden case feeds it anything")
    calibration, held_out = (
        tuple(_case(run, network) for run in fed if run.held_out is wanted) for wanted in (False, True)
    )
    if calibration and held_out:
        return GoldenCases(calibration, held_out)
    cut = [halved(structure, case, multiple_of) for case in (*calibration, *held_out)]
    halves = [two for two in cut if two is not None]
    if not halves:
        raise NothingHeldOut(
            "its only golden case feeds it once, in a size that cannot be cut in two: "
            "with another golden case there is one to judge by"
        )
    return GoldenCases(
        tuple(two.calibration for two in halves),
        tuple(two.held_out for two in halves),
        f"there is one golden case only: {halves[0].how}",
    )


def _case(run: GoldenRun, network: str) -> Case:
    return Case(run.title, tuple(dict(feed) for feed in run.fed[network]))
