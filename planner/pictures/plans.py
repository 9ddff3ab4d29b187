"""A picture of pipelines as they are computed: stages as boxes, what is shared coloured, as SVG text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from planner.pictures.layout import Box, Layout, Point, place
from planner.pictures.svg import FAINT, INK, LINE, opening, rectangle, said_seconds, text
from planner.plan import SOURCE
from planner.reports.explain import ExplainedStage, Explanation, together

_PIPELINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#5f5f5f")
"""Okabe and Ito's palette, which colour-blind people can tell apart, and two more."""

_SHARED = ("#ffffff", "#d5efe9", "#a9dfd4", "#79cdbd")
"""Fill of a stage by how many compiled pipelines need it, drawn or not: 1, 2, 3, 4 and more."""

_ROW, _PAD, _MARGIN, _HEAD, _LEGEND = 18, 10, 32, 84, 68


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A stage and the drawn pipelines (by place) that need it."""

    stage: ExplainedStage
    users: tuple[int, ...]


def draw(explanations: Sequence[Explanation]) -> str:
    """The picture, as the text of an SVG file."""
    drawn = _stages(explanations)
    boxes = _boxes(drawn, explanations)
    layout = place(boxes)
    width = max(layout.width + 2 * _MARGIN, 640.0)
    height = layout.height + _HEAD + _LEGEND + 2 * _MARGIN
    shift = (width - layout.width) / 2
    parts = [
        *opening(width, height),
        *_heading(explanations),
        f"<g transform='translate({shift:.1f},{_HEAD + _MARGIN})'>",
        *(_line(start, end) for start, end in layout.lines),
        _source(boxes[0], layout),
        *(_stage(d, box, layout) for d, box in zip(drawn, boxes[1:], strict=False)),
        *(
            _result(e, place_, box, layout)
            for place_, (e, box) in enumerate(zip(explanations, boxes[1 + len(drawn) :], strict=True))
        ),
        "</g>",
        *_legend(drawn, height - _MARGIN),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _stages(explanations: Sequence[Explanation]) -> list[_Drawn]:
    """Every stage once, inputs before readers."""
    found: dict[str, ExplainedStage] = {}
    users: dict[str, list[int]] = {}
    for number, explanation in enumerate(explanations):
        for stage in explanation.stages:
            found.setdefault(stage.id, stage)
            users.setdefault(stage.id, []).append(number)
    return [_Drawn(stage, tuple(users[stage_id])) for stage_id, stage in found.items()]


def _boxes(drawn: Sequence[_Drawn], explanations: Sequence[Explanation]) -> list[Box]:
    """The source, the stages, the results: in this order."""
    made_by = {node: d.stage.id for d in drawn for node in d.stage.gives} | {SOURCE: SOURCE}
    middle = (len(explanations) - 1) / 2
    boxes = [Box(SOURCE, 190, 34, (), middle)]
    for d in drawn:
        inputs = tuple(dict.fromkeys(made_by[node] for node in d.stage.takes))
        longest = max(len(_row_text(step, operator)) for step, operator in d.stage.steps)
        width = max(7.5 * longest + 2 * _PAD + 7, 150.0)
        width = max(width, 6.4 * len(_cost_text(d.stage)) + 12.0 * len(d.users) + 2 * _PAD + 10)
        height = _ROW * len(d.stage.steps) + 2 * _PAD + 22
        boxes.append(Box(d.stage.id, width, height, inputs, sum(d.users) / len(d.users)))
    for number, explanation in enumerate(explanations):
        ends = tuple(s.id for s in explanation.stages if s.per_job) or (explanation.stages[-1].id,)
        width = max(7.6 * len(line) for line in _result_lines(explanation)) + 2 * _PAD + 8
        boxes.append(Box(f"result {number}", max(width, 150.0), 62, ends, number, last=True))
    return boxes


def _heading(explanations: Sequence[Explanation]) -> list[str]:
    names = ", ".join(e.pipeline for e in explanations)
    sums, images = together(explanations), explanations[0].voxels / (512 * 512)
    counted = f"{sums.stages} stages"
    if len(explanations) > 1:
        counted += f" instead of {sums.stages_alone}"
    said = f"{counted} · estimated {said_seconds(sums.seconds)} of computing"
    if len(explanations) > 1:
        said += f" instead of {said_seconds(sums.seconds_alone)}"
    said += f" for a series of {images:g} images of 512 × 512"
    return [
        text(_MARGIN, _MARGIN + 14, names, size=20, weight="bold"),
        text(_MARGIN, _MARGIN + 38, said, size=13, colour=FAINT),
    ]


def _source(box: Box, layout: Layout) -> str:
    at = layout.corners[box.id]
    return rectangle(at, box.width, box.height, fill="#e4e9ee", radius=17) + text(
        at.x + box.width / 2, at.y + 22, "series of DICOM images", anchor="middle", weight="bold"
    )


def _stage(drawn: _Drawn, box: Box, layout: Layout) -> str:
    stage, at = drawn.stage, layout.corners[box.id]
    users = len(stage.shared_with) + 1
    dash = "stroke-dasharray='5 3'" if stage.pool == "gil" else ""
    parts = [rectangle(at, box.width, box.height, fill=_fill(users), extra=dash)]
    parts.append(f"<title>{escape(_hover(stage))}</title>")
    y = at.y + _PAD + 12
    for step, operator in stage.steps:
        operator_text = "" if operator == step else f"<tspan dx='7' fill='{FAINT}'>{escape(operator)}</tspan>"
        parts.append(
            f"<text x='{at.x + _PAD:.1f}' y='{y:.1f}'>"
            f"<tspan font-weight='bold'>{escape(step)}</tspan>{operator_text}</text>"
        )
        y += _ROW
    parts.append(text(at.x + _PAD, y + 6, _cost_text(stage), size=11, colour=FAINT))
    for index, user in enumerate(reversed(drawn.users)):
        x = at.x + box.width - _PAD - 4 - 12 * index
        parts.append(f"<circle cx='{x:.1f}' cy='{y + 2:.1f}' r='4.5' fill='{_colour(user)}'/>")
    return f"<g>{''.join(parts)}</g>"


def _result(explanation: Explanation, number: int, box: Box, layout: Layout) -> str:
    at = layout.corners[box.id]
    name, title, outputs = _result_lines(explanation)
    strip = (
        f"<rect x='{at.x:.1f}' y='{at.y:.1f}' width='8' height='{box.height}' "
        f"rx='3' fill='{_colour(number)}'/>"
    )
    return (
        rectangle(at, box.width, box.height, fill="#ffffff", radius=3)
        + strip
        + text(at.x + _PAD + 8, at.y + 20, name, weight="bold", size=13, colour=_colour(number))
        + text(at.x + _PAD + 8, at.y + 37, title)
        + text(at.x + _PAD + 8, at.y + 53, outputs, size=11, colour=FAINT)
    )


def _result_lines(explanation: Explanation) -> tuple[str, str, str]:
    outputs = f"DICOM SEG: {', '.join(explanation.outputs)} · alone {said_seconds(explanation.seconds)}"
    return f"{explanation.pipeline} {explanation.version}", explanation.title, outputs


def _line(start: Point, end: Point) -> str:
    """A piece of an edge: straight where it goes straight down, else an S."""
    middle = (start.y + end.y) / 2
    path = f"M {start.x:.1f} {start.y:.1f} C {start.x:.1f} {middle:.1f}, {end.x:.1f} {middle:.1f}, "
    path += f"{end.x:.1f} {end.y:.1f}"
    return f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='1.6'/>"


def _legend(drawn: Sequence[_Drawn], y: float) -> list[str]:
    """Two lines, each within the least width of a picture."""
    counts = sorted({min(len(d.stage.shared_with) + 1, len(_SHARED)) for d in drawn})
    parts = [text(_MARGIN, y - 24, "compiled pipelines that need it, drawn here or not:")]
    x = _MARGIN + 330.0
    for count in counts:
        words = f"{count} or more" if count == len(_SHARED) else str(count)
        parts.append(_swatch(x, y - 24, f"fill='{_fill(count)}' stroke='{LINE}'"))
        parts.append(text(x + 30, y - 24, words))
        x += 30 + 6.6 * len(words) + 26
    parts.append(f"<circle cx='{_MARGIN + 5}' cy='{y - 4:.0f}' r='4.5' fill='{INK}'/>")
    parts.append(text(_MARGIN + 16, y, "dots: those of the pipelines drawn here that need it"))
    if any(d.stage.pool == "gil" for d in drawn):
        x = _MARGIN + 370.0
        parts.append(_swatch(x, y, f"fill='none' stroke='{LINE}' stroke-dasharray='4 2'"))
        parts.append(text(x + 30, y, "runs in a process of its own"))
    return parts


def _swatch(x: float, y: float, style: str) -> str:
    return f"<rect x='{x:.0f}' y='{y - 12:.0f}' width='22' height='14' rx='3' {style}/>"


def _hover(stage: ExplainedStage) -> str:
    shared = f"\nshared with {', '.join(stage.shared_with)}" if stage.shared_with else ""
    return f"{stage.name}\n{stage.granularity} granularity, pool {stage.pool}\n{stage.id}{shared}"


def _row_text(step: str, operator: str) -> str:
    return step if step == operator else f"{step} {operator}"


def _cost_text(stage: ExplainedStage) -> str:
    guess = "" if stage.measured else "guess: "
    megabytes = f"{stage.peak_bytes / 1e6:.0f} MB" if stage.peak_bytes >= 1e6 else "< 1 MB"
    return f"{guess}{said_seconds(stage.seconds)} · {megabytes}"


def _fill(users: int) -> str:
    return _SHARED[min(users, len(_SHARED)) - 1]


def _colour(pipeline: int) -> str:
    return _PIPELINE_COLOURS[pipeline % len(_PIPELINE_COLOURS)]
