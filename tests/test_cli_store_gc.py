"""`store gc` does what `--dry-run` said, names the networks it forgets, and looking makes no store."""

from pathlib import Path

import pytest

from object_store.opening import open_store
from planner.names import GATES, gate_name, precision_name
from planner.networks.families.known import forgettable
from tests.network_commands import CHANNELS, answer, family_files, lightbox, written
from tests.networks import unet


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """`site` stands for another network than it did, so the first, and its family, are of no use."""
    place = tmp_path / "store"
    for seed in (1, 2):
        path = written(tmp_path / "site.onnx", unet(seed, CHANNELS))
        assert lightbox(place, "network", "add", path, "--move").exit_code == 0
    return place


def test_a_dry_run_says_exactly_what_is_then_done(store: Path) -> None:
    words = ("store", "gc", "--older-than-s", "0", "--json")
    would = answer(lightbox(store, *words, "--dry-run"))
    assert len(would["deleted"]) > 3
    assert len(would["forgotten_networks"]) == 1
    names = answer(lightbox(store, "store", "ls", "--json"))
    again = answer(lightbox(store, *words, "--dry-run"))
    assert again == would
    assert answer(lightbox(store, "store", "ls", "--json")) == names
    assert answer(lightbox(store, *words)) == {**would, "dry_run": False}
    nothing = answer(lightbox(store, *words, "--dry-run"))
    assert (nothing["deleted"], nothing["forgotten_networks"]) == ([], [])


def test_a_dry_run_counts_what_families_and_findings_alone_hold(store: Path) -> None:
    """A variant with imported numbers, its base, and what tuning found about them."""
    with open_store(store) as opened:
        base = next(iter(forgettable(opened, -1.0).networks))
        for name in (
            precision_name("machine", base.network.split(":")[1]),
            gate_name("machine", "0" * 64, base.network.split(":")[1]),
        ):
            opened.names.set(name, opened.objects.put(name.encode()))
    words = ("store", "gc", "--older-than-s", "-10", "--json")
    would = answer(lightbox(store, *words, "--dry-run"))
    assert answer(lightbox(store, *words)) == {**would, "dry_run": False}
    with open_store(store) as opened:
        assert opened.names.items(GATES) == {}


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_the_networks_that_go_are_named_with_their_digests(store: Path, dry: list[str]) -> None:
    listed = answer(lightbox(store, "network", "list", "--json"))
    (nameless,) = [row["network"] for row in listed if not row["names"]]
    told = lightbox(store, "store", "gc", "--older-than-s", "0", *dry).stdout
    assert f"1 network {'would be ' if dry else ''}forgotten" in told
    (line,) = [line for line in told.splitlines() if line.startswith(nameless[7:19])]
    assert "was called site, which is another network now" in line


def test_young_networks_are_spared_by_a_dry_run_too(store: Path) -> None:
    told = answer(lightbox(store, "store", "gc", "--dry-run", "--json"))
    assert (told["deleted"], told["forgotten_networks"]) == ([], [])


def test_stats_say_as_unused_what_collecting_then_frees(store: Path, tmp_path: Path) -> None:
    lightbox(store, "network", "add", *family_files(tmp_path))
    kinds = answer(lightbox(store, "store", "stats", "--json"))["kinds"]
    unused = sum(kind["unused_bytes"] for kind in kinds.values())
    assert kinds["tensors"]["unused_bytes"] > 0
    told = lightbox(store, "store", "stats").stdout
    assert "\nunused: `lightbox store gc` deletes it" in told
    freed = answer(lightbox(store, "store", "gc", "--older-than-s", "0", "--json"))["deleted_bytes"]
    assert freed == unused
    kinds = answer(lightbox(store, "store", "stats", "--json"))["kinds"]
    assert sum(kind["unused_bytes"] for kind in kinds.values()) == 0


@pytest.mark.parametrize(
    "words",
    [("network", "list"), ("store", "stats"), ("store", "ls"), ("store", "gc"), ("store", "verify")],
)
@pytest.mark.parametrize("there", [False, True])
def test_looking_at_a_store_that_is_not_there_is_an_error_and_makes_none(
    words: tuple[str, ...], there: bool, tmp_path: Path
) -> None:
    place = tmp_path / "mistyped"
    if there:
        place.mkdir()
    result = lightbox(place, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"lightbox: there is no store in {place}")
    assert place.exists() == there
    assert not there or list(place.iterdir()) == []
