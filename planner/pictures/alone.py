"""The table below a picture of families: networks that are the only one of their structure, a line each."""

from collections.abc import Sequence

from planner.pictures.family_style import MARGIN, ROW, WIDTH, called, cut_to, runs_on, short
from planner.pictures.svg import FAINT, said_bytes, text
from planner.reports.families import FamilyReport

_MOST = 40
"""Lines; what is beyond them is counted."""

_HEAD = 22.0


def alone_height(reports: Sequence[FamilyReport]) -> float:
    return _HEAD + ROW * min(len(reports), _MOST + 1)


def alone_drawn(reports: Sequence[FamilyReport], top: float) -> list[str]:
    """Name, digits, bytes, inputs and outputs, and what it runs on. top: of the heading's baseline."""
    count = f"{len(reports)} networks" if len(reports) > 1 else "1 network"
    parts = [text(MARGIN, top, f"{count} without a family", size=14, weight="bold")]
    for place, report in enumerate(reports[:_MOST]):
        y = top + _HEAD + place * ROW
        network = report.members[0]
        shapes = f"{', '.join(report.inputs)} → {', '.join(report.outputs)}"
        parts += [
            text(MARGIN, y, called(network, 44), size=11),
            text(MARGIN + 300, y, short(network.network), size=11, colour=FAINT),
            text(MARGIN + 470, y, said_bytes(report.bytes), size=11, colour=FAINT, anchor="end"),
            text(MARGIN + 500, y, cut_to(shapes, 76), size=11, colour=FAINT),
            text(WIDTH - MARGIN, y, runs_on(network), size=11, colour=FAINT, anchor="end"),
        ]
    if len(reports) > _MOST:
        more = f"and {len(reports) - _MOST} more"
        parts.append(text(MARGIN, top + _HEAD + _MOST * ROW, more, size=11, colour=FAINT))
    return parts
