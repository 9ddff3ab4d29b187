"""`lightbox store stats`: bytes by kind, and what networks take against what they would take alone."""

from typing import TYPE_CHECKING

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
    counted,
    opened_store,
    print_json,
    print_line,
    print_table,
    said_bytes,
    short,
)

if TYPE_CHECKING:
    from planner.reports.stats import StoreStats

_SHOWN = 24
"""Networks in the table; --json has all."""


def stats_command(store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Show what the store holds, and what each network adds to it."""
    with command_errors(), opened_store(store, must_exist=True) as opened:
        import msgspec

        from planner.reports.stats import store_stats

        stats = store_stats(opened)
        if as_json:
            plain = msgspec.to_builtins(stats)
            sums = {name: getattr(stats, name) for name in _SUMS}
            print_json({**plain, **sums})
            return
        _print_kinds(stats)
        if stats.networks:
            _print_networks(stats)


_SUMS = ("objects", "bytes", "logical_bytes", "physical_bytes")


def _print_kinds(stats: "StoreStats") -> None:
    rows: list[tuple[object, ...]] = [
        (kind, amount.objects, said_bytes(amount.bytes), said_bytes(amount.unused_bytes))
        for kind, amount in stats.kinds.items()
        if amount.objects
    ]
    unused = sum(amount.unused_bytes for amount in stats.kinds.values())
    rows.append(("all objects", stats.objects, said_bytes(stats.bytes), said_bytes(unused)))
    rows.append(("names and tags", "", said_bytes(stats.index_bytes), ""))
    print_table(("kind", "objects>", "bytes>", "unused>"), rows)
    if unused:
        print_line("unused: `lightbox store gc` deletes it, once nobody has brought it for an hour")


def _print_networks(stats: "StoreStats") -> None:
    rows = [
        (
            ", ".join(network.names) or "-",
            short(network.network),
            "opaque" if not network.family else short(network.family),
            said_bytes(network.alone_bytes),
            said_bytes(network.adds_bytes),
            said_bytes(network.until_verified_bytes) if network.until_verified_bytes else "-",
        )
        for network in stats.networks[:_SHOWN]
    ]
    if others := stats.networks[_SHOWN:]:
        alone, adds, until = (
            said_bytes(sum(getattr(network, what) for network in others))
            for what in ("alone_bytes", "adds_bytes", "until_verified_bytes")
        )
        rows.append((f"{len(others)} more", "", "", alone, adds, until))
    columns = ("used as", "network", "family", "alone>", "adds>", "of it until verified>")
    print_table(columns, rows, title="\nnetworks, those that add most first")
    print_line(
        f"{counted(len(stats.networks), 'network')}: {said_bytes(stats.logical_bytes)} each by its own file, "
        f"{said_bytes(stats.physical_bytes)} here{_said_times(stats)} "
        f"({said_bytes(stats.shared_bytes)} shared by several), builds not counted"
    )
    print_line("adds: files of the store that are there for this network alone, records and numbers")
    if any(network.until_verified_bytes for network in stats.networks):
        print_line(
            "until verified: what gives back the imported numbers to the last bit, of a network kept as "
            "the base's numbers with a difference; promotion verifies it and drops this"
        )


def _said_times(stats: "StoreStats") -> str:
    """`, 3.2 times less`; nothing where the records weigh about what is shared."""
    times = stats.logical_bytes / stats.physical_bytes if stats.physical_bytes else 1.0
    return f", {times:.3g} times less" if times >= 1.01 else ""
