"""The words that tables and pictures of families of networks have in common."""

from collections.abc import Callable, Mapping

from planner.reports.families import FamilyMember, FamilyReport, Sharing

SHARING_WORDS: Mapping[Sharing, str] = {
    "constant": "equal in all members",
    "lifted": "each member's own small tensor, fed with each run",
    "scaled": "the base's, times a factor per channel",
    "low-rank": "the base's, plus a product of two thin matrices",
    "sparse": "the base's but for a few numbers",
    "private": "some member's own large tensor, kept in full",
}

NUMBERS_ONLY = "numbers only, without records"
"""What sizes in a family's report are: `lightbox store stats` counts the records as well."""


def said_gate(figures: Mapping[str, tuple[float, float]], seconds: Callable[[float], str]) -> tuple[str, ...]:
    """What was measured of a build, as phrases with units. figures: (least, largest) over its members;
    seconds: how a duration is written."""
    words = {
        "speedup": lambda value: f"{value:.3g}",
        "least_dice": lambda value: f"{value:.4f}",
        "mean_dice": lambda value: f"{value:.4f}",
        "volume_change": lambda value: f"{value:.2%}",
        "seconds": seconds,
        "baseline_seconds": seconds,
    }
    said = {name: _range(figures[name], words.get(name, _plain)) for name in figures}
    phrases = []
    if "speedup" in said:
        phrases.append(f"{said['speedup']} times as fast as plain fp32")
    if {"seconds", "baseline_seconds"} <= said.keys():
        phrases.append(f"{said['seconds']} a run instead of {said['baseline_seconds']}")
    if "least_dice" in said:
        phrases.append(f"least Dice {said['least_dice']}")
    if "mean_dice" in said:
        phrases.append(f"mean {said['mean_dice']}")
    if "volume_change" in said:
        phrases.append(f"volumes within {_range((figures['volume_change'][1],) * 2, words['volume_change'])}")
    if "segments" in said:
        phrases.append(f"{said['segments']} segments judged")
    if figures.get("tiny", (0.0, 0.0))[1]:
        phrases.append(f"{said['tiny']} tiny segments")
    others = (name for name in said if name not in words and name not in ("segments", "tiny"))
    return (*phrases, *(f"{name.replace('_', ' ')} {said[name]}" for name in others))


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _range(of: tuple[float, float], show: Callable[[float], str]) -> str:
    low, high = show(of[0]), show(of[1])
    return low if low == high else f"{low} to {high}"


def first_name(member: FamilyMember, otherwise: str) -> str:
    """`unet and 3 other names`. otherwise: what a member without a name is called."""
    if not member.names:
        return otherwise
    others = len(member.names) - 1
    more = f" and {others} other name{'s' if others > 1 else ''}" if others else ""
    return member.names[0] + more


def open_sizes(report: FamilyReport) -> str:
    """What `d0` stands for in shapes; empty where there is no such size."""
    found = sorted({size for port in (*report.inputs, *report.outputs) for size in _letters(port)})
    if not found:
        return ""
    return f"{', '.join(found)}: any size" + (", equal where the name is" if len(found) > 1 else "")


def _letters(port: str) -> list[str]:
    sizes = port.partition("[")[2].rstrip("]").split(", ")
    return [size for size in sizes if size and not size.isdecimal()]
