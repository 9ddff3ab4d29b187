"""Networks in a damaged store: nothing is called well that is not, and a network's own file heals it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from object_store.digest import Digest
from object_store.opening import open_store
from planner.names import FAMILIES, VARIANTS, variant_name
from planner.networks.families.lost import present
from planner.networks.keeping import NetworkReader
from planner.references import references
from tests.network_commands import CHANNELS, answer, family_files, lightbox, pipeline, written
from tests.networks import unet

Damage = Callable[[Path], None]


def gone(path: Path) -> None:
    path.unlink()


def overwritten(path: Path) -> None:
    size = path.stat().st_size
    path.chmod(0o644)
    path.write_bytes(b"\1" * size)


def place(store: Path, digest: Digest) -> Path:
    return store / "objects" / digest.sha256[:2] / f"{digest.sha256}-{digest.size}"


def objects_named(store: Path, name: str) -> list[Path]:
    """The object that a name stands for, and all that it refers to and that is there."""
    with open_store(store) as opened:
        found, waiting = [], [opened.names.get(name)]
        while waiting:
            digest = waiting.pop()
            assert digest is not None
            if digest in found or not present(opened)(digest):
                continue
            found.append(digest)
            waiting.extend(references(digest, opened.objects.get(digest)))
    return [place(store, digest) for digest in found]


def network_of(row: dict[str, str]) -> Digest:
    return Digest.parse(row["network"])


@pytest.mark.parametrize("damage", [gone, overwritten])
def test_whatever_object_a_network_lacks_its_own_file_puts_it_back(damage: Damage, tmp_path: Path) -> None:
    files, store = family_files(tmp_path), tmp_path / "store"
    rows = answer(lightbox(store, "network", "add", *files, "--json"))
    for row in rows:
        for path in objects_named(store, variant_name(network_of(row).sha256)):
            before = path.read_bytes()
            damage(path)
            assert lightbox(store, "store", "verify").exit_code == 1
            added = lightbox(store, "network", "add", *files)
            assert added.exit_code == 0, (row["name"], added.output)
            assert path.read_bytes() == before
            assert lightbox(store, "store", "verify").exit_code == 0


@pytest.mark.parametrize("damage", [gone, overwritten])
def test_a_network_whose_base_is_damaged_is_not_called_well(damage: Damage, tmp_path: Path) -> None:
    store = tmp_path / "store"
    base = written(tmp_path / "mother.onnx", unet(3, CHANNELS))
    lora = family_files(tmp_path)[3]
    first, second = answer(lightbox(store, "network", "add", base, lora, "--json"))
    assert second["family"] == first["network"]
    with open_store(store) as opened:
        weights = NetworkReader(opened.objects, opened.names).weights(first["network"])
        mine = NetworkReader(opened.objects, opened.names).weights(second["network"])
    differing = [digest for name, digest in weights.items() if mine[name] != digest]
    damage(place(store, differing[0]))
    added = lightbox(store, "network", "add", lora)
    assert added.exit_code == 1
    assert f"of network mother ({first['network'][7:19]}) 1 object is gone or damaged" in added.stdout
    assert "`lightbox network add` with the file of that network puts it back" in added.stdout
    healed = lightbox(store, "network", "add", base, lora)
    assert healed.exit_code == 0, healed.output


@pytest.mark.parametrize("damage", [gone, overwritten])
def test_verify_says_whose_objects_are_lost(damage: Damage, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (row,) = answer(lightbox(store, "network", "add", family_files(tmp_path)[0], "--json"))
    with open_store(store) as opened:
        digest = next(iter(NetworkReader(opened.objects, opened.names).weights(row["network"]).values()))
    damage(place(store, digest))
    told = answer(lightbox(store, "store", "verify", "--json"), code=1)
    assert [finding["digest"] for finding in told["findings"]] == [str(digest)]
    assert told["networks"] == [{"network": network_of(row).sha256, "names": ["unet"], "lost": [str(digest)]}]
    assert "of network unet" in lightbox(store, "store", "verify").stdout


def test_compiling_puts_back_what_is_gone_too(tmp_path: Path) -> None:
    store, graph = tmp_path / "store", written(tmp_path / "net.onnx", unet(3, CHANNELS))
    words = ("compile", pipeline(tmp_path, "mine", graph), "--no-measure")
    assert lightbox(store, *words).exit_code == 0
    (name,) = _names(store, VARIANTS)
    victim = max(objects_named(store, name), key=lambda path: path.stat().st_size)
    gone(victim)
    again = lightbox(store, *words)
    assert again.exit_code == 0, again.output
    assert victim.exists()


def _names(store: Path, prefix: str) -> list[str]:
    with open_store(store) as opened:
        return list(opened.names.items(prefix))


def test_healing_leaves_no_network_twice_and_no_family_more(tmp_path: Path) -> None:
    files, store = family_files(tmp_path), tmp_path / "store"
    lightbox(store, "network", "add", *files)
    before = _names(store, VARIANTS), _names(store, FAMILIES)
    overwritten(objects_named(store, before[0][0])[0])
    assert lightbox(store, "network", "add", *files).exit_code == 0
    assert (_names(store, VARIANTS), _names(store, FAMILIES)) == before
