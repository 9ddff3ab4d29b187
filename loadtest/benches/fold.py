"""The same site variants exported with normalisation folded into the filters, which hides the sharing."""

from loadtest.benches.figures import Findings
from loadtest.benches.networks.side_by_side import Scale, compare
from loadtest.benches.say import Say


def run(quick: bool, say: Say) -> Findings:
    """Filters are recovered: each variant is the base's filters and a factor for each channel."""
    return compare(Scale.of(quick), say, folded=True, at_defaults=False)
