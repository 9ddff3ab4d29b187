"""A picture of families of networks: the base as a column of layers, and what members add, as SVG text."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.pictures.alone import alone_drawn, alone_height
from planner.pictures.family_style import COLOURS, MARGIN, RIGHT, ROW, WIDTH, cut_to, headed, short
from planner.pictures.layout import Point
from planner.pictures.members import amounts, builds_drawn, builds_height, members_drawn, members_height
from planner.pictures.svg import FAINT, LINE, opening, rectangle, said_bytes, text
from planner.reports.families import SHARINGS, FamilyReport, FamilyTensor, Sharing
from planner.reports.family_words import SHARING_WORDS, open_sizes

_HEAD, _LEGEND = 104.0, 22.0
_LABELS, _BARS = 192.0, 318.0
"""Width of the layers' labels and bars."""

_MOST_ROWS = 44
"""How many layers are drawn before neighbours are joined."""


def draw_families(reports: Sequence[FamilyReport], alone: Sequence[FamilyReport] = ()) -> str:
    """The picture, one family below the other, as the text of an SVG file.

    alone: families of one network each, which share nothing: a line each in a table below.
    """
    drawn = [_Picture(report) for report in reports]
    parts: list[str] = []
    y = 0.0
    for picture in drawn:
        parts += [f"<g transform='translate(0,{y:.0f})'>", *picture.parts(), "</g>"]
        y += picture.height
    if reports:
        there: set[Sharing] = {tensor.sharing for report in reports for tensor in report.tensors}
        there |= {kind for report in reports for member in report.members for kind in member.adds}
        kinds = [kind for kind in SHARINGS if kind in there | {"constant"}]
        parts += _legend(kinds, y)
        y += math.ceil(len(kinds) / 2) * _LEGEND
    if alone:
        parts += alone_drawn(alone, y + MARGIN)
        y += MARGIN + alone_height(alone)
    if not parts:
        parts.append(text(MARGIN, MARGIN + 14, "no opened networks", size=20, weight="bold"))
        y = MARGIN + 30
    return "\n".join([*opening(WIDTH, y + MARGIN), *parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer as it is drawn, or several neighbours as one."""

    label: str
    after: str
    """The operators that follow within the layer."""
    tensors: tuple[FamilyTensor, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    """One family."""

    report: FamilyReport

    @property
    def height(self) -> float:
        left = ROW * len(_rows(self.report)) + 57
        right = 160 + members_height(self.report) + 64 + builds_height(self.report.builds)
        return _HEAD + max(left, right) + MARGIN

    def parts(self) -> list[str]:
        top = _HEAD + 16
        parts = [*_heading(self.report), *_column(self.report, top), *amounts(self.report, top)]
        y = top + 138
        parts += members_drawn(self.report, y)
        parts += builds_drawn(
            self.report.builds, len(self.report.members), y + 34 + members_height(self.report)
        )
        return parts


def _heading(report: FamilyReport) -> list[str]:
    count = len(report.members)
    base = report.members[0]
    operators = ", ".join(f"{number} {name}" for name, number in list(report.operators.items())[:6])
    kinds = Counter(tensor.sharing for tensor in report.tensors)
    shared = ", ".join(f"{kinds[kind]} {kind}" for kind in SHARINGS if kind in kinds)
    subject = f"{count} networks, one structure" if count > 1 else "1 network"
    said = (
        f"{_number(report.parameters)} parameters, {said_bytes(report.bytes)} · {len(report.tensors)} tensors"
    )
    sizes = f" ({open_sizes(report)})" if open_sizes(report) else ""
    shapes = cut_to(f"{', '.join(report.inputs)} → {', '.join(report.outputs)}{sizes} · {operators}", 190)
    return [
        text(MARGIN, MARGIN + 14, f"{headed(base)}: {subject}", size=20, weight="bold"),
        text(MARGIN, MARGIN + 38, f"{said}: {shared}", size=13, colour=FAINT),
        text(
            WIDTH - MARGIN,
            MARGIN + 38,
            f"structure {short(report.structure)}, base {short(report.base)}",
            size=11,
            colour=FAINT,
            anchor="end",
        ),
        text(MARGIN, MARGIN + 58, shapes, size=11, colour=FAINT),
    ]


def _column(report: FamilyReport, top: float) -> list[str]:
    """The layers from input to output; bars are centred, so that the shape of the network shows."""
    rows = _rows(report)
    longest = max((_extent(row.tensors) for row in rows), default=1.0) or 1.0
    centre = MARGIN + _LABELS + _BARS / 2
    parts = [
        text(MARGIN, top, "Base, layer by layer", size=14, weight="bold"),
        text(
            MARGIN + 184,
            top,
            "width: bytes (square root); coloured: how many members differ",
            size=11,
            colour=FAINT,
        ),
        text(MARGIN, top + 17, _said_bars(rows), size=11, colour=FAINT),
    ]
    top += 17
    for place, row in enumerate(rows):
        y = top + 16 + place * ROW
        parts.append(text(MARGIN, y + 11, row.label, size=11))
        scale = (_BARS - 2 * len(row.tensors)) / longest
        widths = [max(math.sqrt(tensor.bytes) * scale, 2.5) for tensor in row.tensors]
        x = centre - (sum(widths) + 2 * max(len(widths) - 1, 0)) / 2
        if not widths:
            parts.append(rectangle(Point(centre - 1, y + 2), 2, ROW - 5, fill=LINE, radius=0, stroke="none"))
        for tensor, width in zip(row.tensors, widths, strict=True):
            parts += _tensor(tensor, len(report.members), Point(x, y + 2), width)
            x += width + 2
        if row.after:
            parts.append(text(MARGIN + _LABELS + _BARS + 8, y + 11, row.after, size=10, colour=FAINT))
    return parts


def _said_bars(rows: Sequence[_Row]) -> str:
    """What the bars of a row are."""
    if any(not tensor.shape for row in rows for tensor in row.tensors):
        return "a row: neighbouring layers; its bars: their tensors, by how they are shared"
    after = [kind for kind in ("Mul", "Add", "PRelu") if kind in {t.read_by for r in rows for t in r.tensors}]
    roles = {"Mul": "scale (Mul)", "Add": "shift (Add)", "PRelu": "slope (PRelu)"}
    said = "a row: a layer; its bars: its filters first"
    return said + (
        f", then the {' and the '.join(roles[kind] for kind in after)} of each channel" if after else ""
    )


def _tensor(tensor: FamilyTensor, members: int, at: Point, width: float) -> list[str]:
    """A bar whose lower part is coloured: as much of it as there are members in which the tensor differs."""
    full, hover = ROW - 4, _hover(tensor, members)
    parts = [rectangle(at, width, full, fill=COLOURS["constant"], radius=0, stroke="none", title=hover)]
    bottom = at.y + full
    for kind in SHARINGS:
        if count := tensor.differing.get(kind, 0):
            height = min(max(count / max(members - 1, 1) * full, 2.5), bottom - at.y)
            bottom -= height
            fill = COLOURS[kind]
            place = Point(at.x, bottom)
            parts.append(rectangle(place, width, height, fill=fill, radius=0, stroke="none", title=hover))
    return parts


def _rows(report: FamilyReport) -> list[_Row]:
    """At most _MOST_ROWS: neighbours are joined, evenly, where there are more layers."""
    tensors = {tensor.name: tensor for tensor in report.tensors}
    each = max(math.ceil(len(report.layers) / _MOST_ROWS), 1)
    rows = []
    for start in range(0, len(report.layers), each):
        layers = report.layers[start : start + each]
        own = [tensors[name] for layer in layers for name in layer.tensors]
        if each == 1:
            label = layers[0].operators[0]
            if own:
                label += f" {' × '.join(map(str, own[0].shape))}"
            follow = [op for op in layers[0].operators[1:] if op not in ("Mul", "Add")]
            rows.append(_Row(cut_to(label, 34), cut_to(_counted(follow), 14), tuple(own)))
        else:
            label = (
                f"{start + 1} to {start + len(layers)}: {_counted(layer.operators[0] for layer in layers)}"
            )
            rows.append(_Row(cut_to(label, 34), "", _gathered(own)))
    return rows


def _gathered(tensors: Iterable[FamilyTensor]) -> tuple[FamilyTensor, ...]:
    """One for each way of sharing, as large as all of them."""
    by_kind: dict[Sharing, list[FamilyTensor]] = {}
    for tensor in tensors:
        by_kind.setdefault(tensor.sharing, []).append(tensor)
    return tuple(
        FamilyTensor(
            name=f"{len(several)} tensors",
            read_by=several[0].read_by,
            shape=(),
            dtype=several[0].dtype,
            bytes=sum(tensor.bytes for tensor in several),
            sharing=kind,
            differing=_most(tensor.differing for tensor in several),
            adds_bytes=sum(tensor.adds_bytes for tensor in several),
        )
        for kind, several in by_kind.items()
    )


def _most(counts: Iterable[Mapping[Sharing, int]]) -> dict[Sharing, int]:
    found: dict[Sharing, int] = {}
    for count in counts:
        for kind, number in count.items():
            found[kind] = max(found.get(kind, 0), number)
    return found


def _extent(tensors: Sequence[FamilyTensor]) -> float:
    return sum(math.sqrt(tensor.bytes) for tensor in tensors)


def _legend(kinds: Sequence[Sharing], top: float) -> list[str]:
    """Two to a line, in columns."""
    parts = []
    for place, kind in enumerate(kinds):
        x, y = (MARGIN, RIGHT)[place % 2], top + place // 2 * _LEGEND
        parts.append(rectangle(Point(x, y - 11), 22, 14, fill=COLOURS[kind], radius=3, stroke="none"))
        parts.append(text(x + 30, y, kind, weight="bold"))
        parts.append(text(x + 96, y, SHARING_WORDS[kind], colour=FAINT))
    return parts


def _hover(tensor: FamilyTensor, members: int) -> str:
    shape = " × ".join(map(str, tensor.shape))
    differing = ", ".join(f"{kind} in {number}" for kind, number in tensor.differing.items())
    said = f"{tensor.name} {tensor.dtype} {shape}, {said_bytes(tensor.bytes)}"
    if not differing:
        return f"{said}\nequal in all {members}"
    return f"{said}\n{differing} of {members}, {said_bytes(tensor.adds_bytes)} in all"


def _counted(names: Iterable[str]) -> str:
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in Counter(names).items())


def _number(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1e3 else str(count)
