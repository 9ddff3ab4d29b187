"""`lightbox explain --family`: what networks have in common, and what each adds."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cli.output import print_json, print_line, print_table, said_bytes, short

if TYPE_CHECKING:
    from object_store.opening import Store
    from planner.reports.families import FamilyBuild, FamilyMember, FamilyReport, OpaqueNetwork

_SHOWN = 24
"""Rows of members and of tensors in a table; --json has all."""


def explain_families(store: "Store", wanted: Iterable[str], svg: Path | None, *, as_json: bool) -> None:
    """Print the families of these pipelines and networks, and draw them. Raises: UnknownNetwork, OSError."""
    import msgspec

    from planner.reports.families import family_report

    families, opaque = family_report(store, wanted)
    if svg is not None:
        from planner.pictures.families import draw_families

        svg.write_text(draw_families(families), encoding="utf-8")
    if as_json:
        print_json({"families": msgspec.to_builtins(families), "opaque": msgspec.to_builtins(opaque)})
        return
    for family in families:
        _print_family(family)
    _print_opaque(opaque)
    if not families and not opaque:
        print_line("no networks")
    if svg is not None:
        print_line(f"picture: {svg}")


def _print_family(family: "FamilyReport") -> None:
    operators = ", ".join(f"{number} {name}" for name, number in family.operators.items())
    print_line(
        f"family of {len(family.members)}: structure {short(family.structure)}, base {short(family.base)}"
    )
    print_line(f"  {', '.join(family.inputs)} -> {', '.join(family.outputs)}; {operators}")
    print_line(
        f"  {family.parameters} parameters, {said_bytes(family.bytes)} each; together "
        f"{said_bytes(family.bytes + family.adds_bytes)} instead of "
        f"{said_bytes(family.bytes * len(family.members))}\n"
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
        ("member", "network", "adds>", "as", "exact", "runs on"),
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
        exact += ", not verified: runs from its own numbers"
    return (
        ", ".join(member.names) or "-",
        short(member.network),
        "the base" if member.is_base else said_bytes(member.adds_bytes),
        ", ".join(f"{kind} {said_bytes(size)}" for kind, size in member.adds.items()) or "-",
        exact,
        str(member.runs) if member.runs else "onnxruntime fp32",
    )


def _build(build: "FamilyBuild") -> tuple[object, ...]:
    figures = ", ".join(
        f"{name} {low:.4g}" + (f" to {high:.4g}" if high != low else "")
        for name, (low, high) in build.figures.items()
    )
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
