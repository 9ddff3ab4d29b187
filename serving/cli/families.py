"""`lightbox explain --family`: what networks have in common, and what each adds."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cli.output import counted, print_json, print_line, print_table, said_bytes, said_seconds, short

if TYPE_CHECKING:
    from object_store.opening import Store
    from planner.reports.families import FamilyBuild, FamilyMember, FamilyReport, OpaqueNetwork

_SHOWN = 24
"""Rows of members and of tensors in a table; --json has all."""


def explain_families(store: "Store", wanted: Iterable[str], svg: Path | None, *, as_json: bool) -> None:
    """Print the families of these pipelines and networks, and draw them. Raises: UnknownNetwork, OSError.

    Where none is wanted by name, networks without a family are one table below all others.
    """
    import msgspec

    from planner.reports.families import family_report

    asked = tuple(wanted)
    families, opaque = family_report(store, asked)
    alone = () if asked else tuple(family for family in families if len(family.members) == 1)
    if len(families) == 1:
        alone = ()
    drawn = [family for family in families if family not in alone]
    if svg is not None:
        from planner.pictures.families import draw_families

        svg.write_text(draw_families(drawn, alone), encoding="utf-8")
    if as_json:
        print_json({"families": msgspec.to_builtins(families), "opaque": msgspec.to_builtins(opaque)})
        return
    for family in drawn:
        _print_family(family)
    if drawn:
        _print_words(drawn)
    _print_alone(alone)
    _print_opaque(opaque)
    if not families and not opaque:
        print_line("no networks")
    if svg is not None:
        print_line(f"picture: {svg}")


def _print_family(family: "FamilyReport") -> None:
    from planner.reports.family_words import NUMBERS_ONLY, open_sizes

    operators = ", ".join(f"{number} {name}" for name, number in family.operators.items())
    print_line(
        f"family of {len(family.members)}: structure {short(family.structure)}, base {short(family.base)}"
    )
    sizes = f" ({open_sizes(family)})" if open_sizes(family) else ""
    print_line(f"  {', '.join(family.inputs)} -> {', '.join(family.outputs)}{sizes}; {operators}")
    waiting = family.until_verified_bytes
    besides = f"; plus {said_bytes(waiting)} until verified (at promotion)" if waiting else ""
    print_line(
        f"  {family.parameters} parameters, {said_bytes(family.bytes)} each; together "
        f"{said_bytes(family.bytes + family.adds_bytes)} instead of "
        f"{said_bytes(family.bytes * len(family.members))}, {NUMBERS_ONLY}{besides}\n"
    )
    differing = [tensor for tensor in family.tensors if tensor.differing]
    constant = [tensor for tensor in family.tensors if not tensor.differing]
    rows = [
        (
            tensor.name,
            tensor.read_by,
            " x ".join(map(str, tensor.shape)),
            said_bytes(tensor.bytes),
            ", ".join(f"{kind} in {number}" for kind, number in tensor.differing.items()),
            said_bytes(tensor.adds_bytes),
        )
        for tensor in differing[:_SHOWN]
    ]
    size = said_bytes(sum(tensor.bytes for tensor in constant))
    if constant:
        rows.append((f"{len(constant)} tensors", "", "", size, "constant", "0 B"))
    print_table(("tensor", "read by", "shape", "bytes>", "sharing", "all members add>"), rows)
    _more(len(differing), "tensors that differ")
    print_line("")
    print_table(
        ("member", "network", "adds>", "as", "until verified>", "exact", "runs on"),
        [_member(member) for member in family.members[:_SHOWN]],
    )
    _more(len(family.members), "members")
    if family.builds:
        columns = ("build", "engine", "precision", "passed>", "refused>", "preferred>", "gate")
        print_line("")
        print_table(columns, [_build(build) for build in family.builds])
    print_line("")


def _member(member: "FamilyMember") -> tuple[str, ...]:
    exact = "bit for bit" if not member.tolerance else f"to {member.tolerance:.1g}"
    if not member.verified:
        exact += ", to be verified"
    return (
        ", ".join(member.names) or "-",
        short(member.network),
        "the base" if member.is_base else said_bytes(member.adds_bytes),
        ", ".join(f"{kind} {said_bytes(size)}" for kind, size in member.adds.items()) or "-",
        said_bytes(sum(member.until_verified.values())) if member.until_verified else "-",
        exact,
        _runs(member),
    )


def _runs(member: "FamilyMember") -> str:
    if not member.verified:
        return "onnxruntime fp32, its own numbers"
    return str(member.runs) if member.runs else "onnxruntime fp32"


def _print_words(families: "list[FamilyReport]") -> None:
    """What the words in the tables above mean, of those that are there."""
    from planner.reports.families import SHARINGS
    from planner.reports.family_words import SHARING_WORDS

    there = {tensor.sharing for family in families for tensor in family.tensors}
    there |= {kind for family in families for member in family.members for kind in member.adds}
    for kind in SHARINGS:
        if kind in there:
            print_line(f"{kind}: {SHARING_WORDS[kind]}")
    print_line("adds: numbers beside the base's (`lightbox store stats` counts the records as well)")
    members = [member for family in families for member in family.members]
    if any(member.until_verified for member in members):
        print_line("until verified: kept besides to give back the imported numbers; promotion lets go of it")
    if any(member.tolerance for member in members):
        print_line(
            "exact: bit for bit, it computes with the imported numbers; to 2e-07, with numbers that differ "
            "from these by at most that share, once its outputs were verified at promotion"
        )
    if any(family.builds for family in families):
        print_line("build: a compiled form; passed, refused: members, by the gate; preferred: run on it")
    print_line("")


def _print_alone(alone: "tuple[FamilyReport, ...]") -> None:
    """Networks that are the only one of their structure."""
    if not alone:
        return
    rows = [
        (
            ", ".join(family.members[0].names) or "-",
            short(family.base),
            family.parameters,
            said_bytes(family.bytes),
            f"{', '.join(family.inputs)} -> {', '.join(family.outputs)}",
            _runs(family.members[0]),
        )
        for family in alone[:_SHOWN]
    ]
    print_line(f"{counted(len(alone), 'network')} without a family; by name, each is shown in full")
    print_table(("name", "network", "parameters>", "bytes>", "inputs and outputs", "runs on"), rows)
    _more(len(alone), "networks")
    print_line("")


def _build(build: "FamilyBuild") -> tuple[object, ...]:
    from planner.reports.family_words import said_gate

    figures = ", ".join(said_gate(build.figures, said_seconds))
    passed = (build.passed, build.refused, build.preferred)
    precision = build.precision + (" (one member's own)" if build.alone else "")
    return (short(build.build), build.engine, precision, *passed, figures or "-")


def _print_opaque(opaque: "tuple[OpaqueNetwork, ...]") -> None:
    if not opaque:
        return
    rows = [
        (", ".join(network.names), short(network.graph), said_bytes(network.bytes), network.why)
        for network in opaque
    ]
    print_table(("pipelines", "graph", "bytes>", "why"), rows, title="networks that stay opaque")
    reasons = Counter(network.why for network in opaque)
    if len(opaque) > _SHOWN:
        print_line("; ".join(f"{number}: {why}" for why, number in reasons.most_common()))


def _more(count: int, what: str) -> None:
    if count > _SHOWN:
        print_line(f"and {count - _SHOWN} more {what}; --json has all")
