"""The right half of a family's picture: bytes together, what each member adds, and compiled forms."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from planner.pictures.family_style import COLOURS, MARGIN, RIGHT, ROW, WIDTH, called, runs_on, wrapped
from planner.pictures.layout import Point
from planner.pictures.svg import FAINT, LINE, rectangle, said_bytes, said_seconds, text
from planner.reports.families import SHARINGS, FamilyBuild, FamilyMember, FamilyReport, Sharing
from planner.reports.family_words import NUMBERS_ONLY, said_gate

_NAMED, _COLUMNS = 20, 280
"""Up to how many members have a line each, and into how many bars more than these are gathered."""


def amounts(report: FamilyReport, top: float) -> list[str]:
    """Two bars to one scale: all members by themselves, and as they are kept."""
    alone = report.bytes * len(report.members)
    room = WIDTH - MARGIN - RIGHT
    kinds: Counter[Sharing] = Counter()
    for member in report.members:
        kinds.update(member.adds)
    kept = report.bytes + report.adds_bytes
    parts = [text(RIGHT, top, "Bytes of parameters", size=14, weight="bold")]
    parts.append(text(RIGHT, top + 24, f"each by itself: {said_bytes(alone)}", size=12))
    parts.append(
        rectangle(Point(RIGHT, top + 30), room, 16, fill=COLOURS["constant"], radius=2, stroke="none")
    )
    times = f", {alone / kept:.3g} times less" if len(report.members) > 1 and kept else ""
    base, more = said_bytes(report.bytes), said_bytes(report.adds_bytes)
    words = f"as a family: {said_bytes(kept)}{times} (base {base} + {more} of all members)"
    parts.append(text(RIGHT, top + 66, words, size=12))
    x = RIGHT
    for fill, size in [(COLOURS["constant"], report.bytes), *((COLOURS[k], kinds[k]) for k in SHARINGS)]:
        if size:
            width = max(size / alone * room, 1.5)
            parts.append(
                rectangle(
                    Point(x, top + 72), width, 16, fill=fill, radius=0, stroke="none", title=said_bytes(size)
                )
            )
            x += width
    waiting = report.until_verified_bytes
    besides = f"; plus {said_bytes(waiting)} until verified (at promotion)" if waiting else ""
    parts.append(text(RIGHT, top + 104, f"{NUMBERS_ONLY}{besides}", size=11, colour=FAINT))
    return parts


def members_height(report: FamilyReport) -> float:
    count = len(report.members)
    return ROW * count + 12 if count <= _NAMED else 206.0


def members_drawn(report: FamilyReport, top: float) -> list[str]:
    largest = max((member.adds_bytes for member in report.members), default=0)
    parts = [text(RIGHT, top, "What each member adds to the base", size=14, weight="bold")]
    if len(report.members) <= _NAMED:
        return parts + _lines(report.members, top + 14, largest)
    return parts + _bars(report.members, top + 14, largest)


def _lines(members: Sequence[FamilyMember], top: float, largest: int) -> list[str]:
    """A line each: name, bar, bytes, and what it runs on."""
    parts, left, room = list[str](), RIGHT + 170, 130.0  # beyond it: bytes, then what it runs on
    for place, member in enumerate(members):
        y = top + place * ROW
        parts.append(text(RIGHT, y + 11, called(member, 27), size=11))
        x = left
        for kind in SHARINGS:
            if size := member.adds.get(kind, 0):
                width = max(size / largest * room, 1.5)
                parts.append(
                    rectangle(
                        Point(x, y + 2),
                        width,
                        ROW - 5,
                        fill=COLOURS[kind],
                        radius=2,
                        stroke="none",
                        title=f"{kind}: {said_bytes(size)}",
                    )
                )
                x += width
        said = "the base" if member.is_base else said_bytes(member.adds_bytes)
        parts.append(text(x + (6 if x > left else 0), y + 11, said, size=11, colour=FAINT))
        parts.append(text(WIDTH - MARGIN, y + 11, runs_on(member), size=11, colour=FAINT, anchor="end"))
    return parts


def _bars(members: Sequence[FamilyMember], top: float, largest: int) -> list[str]:
    """A thin upright bar each, by size; more than _COLUMNS are gathered, several to a bar of their mean.

    A few that are far larger than the others are cut, so that the others can be seen.
    """
    others = sorted((m for m in members if not m.is_base), key=lambda m: (-m.adds_bytes, m.network))
    sizes = [member.adds_bytes for member in others]
    usual = sizes[len(sizes) // 20] * 1.25
    most = usual if 0 < 3 * usual < largest else max(float(largest), 1.0)
    each = max(math.ceil(len(others) / _COLUMNS), 1)
    gathered = [others[start : start + each] for start in range(0, len(others), each)]
    room, height = WIDTH - MARGIN - RIGHT - 64, 118.0
    step, bottom, left = room / len(gathered), top + 10 + height, RIGHT + 64
    parts = []
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * height
        parts.append(f"<path d='M {left:.1f} {y:.1f} h {room:.1f}' stroke='{LINE}' stroke-width='0.6'/>")
        parts.append(text(left - 6, y + 4, said_bytes(part * most), size=10, colour=FAINT, anchor="end"))
    for place, several in enumerate(gathered):
        parts += _bar(several, left + place * step, bottom, step, height / most, height + 6)
    cut = [member for member in others if member.adds_bytes > most]
    one = "one bar each" if each == 1 else f"{each} to a bar"
    said = (
        f"{len(others)} members beside the base, {one}, largest first: {said_bytes(min(sizes))} to "
        f"{said_bytes(max(sizes))}, median {said_bytes(median(sizes))}"
    )
    parts.append(text(RIGHT, bottom + 18, said, size=11))
    y = bottom + 34
    if cut:
        names = ", ".join(f"{called(m, 24)} {said_bytes(m.adds_bytes)}" for m in cut[:4])
        more = f" and {len(cut) - 4} more" if len(cut) > 4 else ""
        parts.append(text(RIGHT, y, f"cut at the top: {names}{more}", size=11, colour=FAINT))
        y += 16
    ways = Counter(runs_on(member) for member in members)
    running = ", ".join(f"{number} on {way}" for way, number in ways.most_common(4))
    parts.append(text(RIGHT, y, f"run by preference: {running}", size=11, colour=FAINT))
    return parts


def _bar(
    several: Sequence[FamilyMember], x: float, bottom: float, step: float, scale: float, most: float
) -> list[str]:
    """The mean of these members as one upright bar, at most `most` high; scale: pixels for a byte."""
    name = called(several[0], 60) + (f" and {len(several) - 1} more" if len(several) > 1 else "")
    parts, tall = list[str](), 0.0
    for kind in SHARINGS:
        size = sum(member.adds.get(kind, 0) for member in several) / len(several)
        height = min(size * scale, most - tall)
        if height > 0:
            tall += height
            parts.append(
                rectangle(
                    Point(x, bottom - tall),
                    max(step - (0.6 if step > 2 else 0), 0.8),
                    height,
                    fill=COLOURS[kind],
                    radius=0,
                    stroke="none",
                    title=f"{name}\n{kind}: {said_bytes(size)}",
                )
            )
    return parts


_BUILD_LINE = 15.0
"""From one line of a compiled form to the next."""


def builds_height(builds: Sequence[FamilyBuild]) -> float:
    return sum(_build_height(build) for build in builds) if builds else 2 + _BUILD_LINE


def _build_height(build: FamilyBuild) -> float:
    return _BUILD_LINE * (1 + len(_figures(build))) + 4


def builds_drawn(builds: Sequence[FamilyBuild], members: int, top: float) -> list[str]:
    own = any(build.alone for build in builds)
    title = f"Compiled forms, one for all members{' or (own build) for one' if own else ''}"
    parts = [text(RIGHT, top, title, size=14, weight="bold")]
    if not builds:
        words = "none yet: members run from their own numbers, fp32, on onnxruntime"
        return [*parts, text(RIGHT, top + 18, words, size=11, colour=FAINT)]
    y = top + 18
    for build in builds:
        said = f"{build.engine} {build.precision}" + (" (own build)" if build.alone else "")
        refused = f", refused for {build.refused}" if build.refused else ""
        words = f"passed for {build.passed} of {members}{refused}, preferred by {build.preferred}"
        parts.append(text(RIGHT, y, said, size=11, weight="bold"))
        parts.append(text(RIGHT + 200, y, words, size=11, colour=FAINT))
        for place, line in enumerate(_figures(build)):
            parts.append(text(RIGHT + 12, y + _BUILD_LINE * (place + 1), line, size=11, colour=FAINT))
        y += _build_height(build)
    return parts


def _figures(build: FamilyBuild) -> list[str]:
    """Lines that end before the picture does."""
    return wrapped(said_gate(build.figures, said_seconds), 88)
