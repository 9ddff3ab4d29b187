"""What the parts of a family's picture have in common: colours, places, and how members are called."""

from collections.abc import Mapping

from planner.reports.families import FamilyMember, Sharing

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


def runs_on(member: FamilyMember) -> str:
    if not member.verified:
        return "own numbers (not verified)"
    return "onnxruntime fp32" if member.runs is None else str(member.runs)


def cut_to(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
