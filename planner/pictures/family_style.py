"""What the parts of a family's picture have in common: colours, places, and how members are called."""

from collections.abc import Mapping, Sequence

from planner.reports.families import FamilyMember, Sharing
from planner.reports.family_words import first_name

COLOURS: Mapping[Sharing, str] = {
    "constant": "#c3ccd6",
    "lifted": "#e69f00",
    "scaled": "#009e73",
    "low-rank": "#0072b2",
    "sparse": "#cc79a7",
    "private": "#d55e00",
}
"""Okabe and Ito's palette, which colour-blind people can tell apart, beside a grey."""

WIDTH, MARGIN, RIGHT, ROW = 1240.0, 32.0, 660.0, 17.0
"""Of the picture and around it; where its right half begins; the height of a line."""


def called(member: FamilyMember, most: int) -> str:
    return cut_to(", ".join(member.names) or short(member.network), most)


def headed(member: FamilyMember) -> str:
    """How a family is called by its base, in a heading."""
    return cut_to(first_name(member, short(member.network)), 60)


def runs_on(member: FamilyMember) -> str:
    if not member.verified:
        return "own numbers (not verified)"
    return "onnxruntime fp32" if member.runs is None else str(member.runs)


def cut_to(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def wrapped(phrases: Sequence[str], most: int, between: str = " · ") -> list[str]:
    """Lines of at most `most` letters; only between phrases, which are cut where they alone are longer."""
    lines: list[str] = []
    for phrase in phrases:
        if lines and len(lines[-1]) + len(between) + len(phrase) <= most:
            lines[-1] += between + phrase
        else:
            lines.append(cut_to(phrase, most))
    return lines


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
