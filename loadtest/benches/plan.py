"""Shared parts of networks, upsample-argmax, windows, compiling, and real networks through planning."""

from collections.abc import Callable, Sequence

from loadtest.benches import backbone, upsample
from loadtest.benches.figures import Findings
from loadtest.benches.networks import compiling, real_families, window_inside
from loadtest.benches.say import Say

Part = Callable[[bool, Say], Findings]


def run(quick: bool, say: Say) -> Findings:
    """All five. Raises: FileNotFoundError without the real data, before anything is measured."""
    real_families.require_data()
    parts: Sequence[Part] = (backbone.run, _upsampling, window_inside.run, compiling.run, real_families.run)
    return together([part(quick, say) for part in parts])


def together(found: Sequence[Findings]) -> Findings:
    """The findings of several parts as those of one bench."""
    return Findings(
        figures={key: value for one in found for key, value in one.figures.items()},
        bars=[bar for one in found for bar in one.bars],
        notes=[note for one in found for note in one.notes],
    )


def _upsampling(quick: bool, say: Say) -> Findings:
    figures, bars, notes = upsample.measured(quick, say)
    return Findings(figures=figures, bars=bars, notes=notes)
