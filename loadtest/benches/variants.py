"""Site variants whose normalisation differs, as one family, against one session per model."""

from loadtest.benches.figures import Findings
from loadtest.benches.networks.side_by_side import Scale, compare
from loadtest.benches.say import Say


def run(quick: bool, say: Say) -> Findings:
    """Exports that keep batch normalisation as an operator of its own."""
    return compare(Scale.of(quick), say, folded=False, at_defaults=True)
