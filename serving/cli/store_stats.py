"""`lightbox store stats`: bytes by kind, and what networks take against what they would take alone."""

from typing import TYPE_CHECKING

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
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
    with command_errors(), opened_store(store) as opened:
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


def _print_networks(stats: "StoreStats") -> None:
    rows = [
        (
            ", ".join(network.names) or "-",
            short(network.network),
            "opaque" if not network.family else short(network.family),
            said_bytes(network.alone_bytes),
            said_bytes(network.adds_bytes),
        )
        for network in stats.networks[:_SHOWN]
    ]
    if others := stats.networks[_SHOWN:]:
        alone, adds = (
            sum(network.alone_bytes for network in others),
            sum(network.adds_bytes for network in others),
        )
        rows.append((f"{len(others)} more", "", "", said_bytes(alone), said_bytes(adds)))
    columns = ("used as", "network", "family", "alone>", "adds>")
    print_table(columns, rows, title="\nnetworks, those that add most first")
    times = stats.logical_bytes / stats.physical_bytes if stats.physical_bytes else 1.0
    print_line(
        f"{len(stats.networks)} networks: {said_bytes(stats.logical_bytes)} each by its own file, "
        f"{said_bytes(stats.physical_bytes)} here, {times:.3g} times less "
        f"({said_bytes(stats.shared_bytes)} shared by several), builds not counted"
    )
