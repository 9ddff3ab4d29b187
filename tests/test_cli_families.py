"""`lightbox explain --family` explains its words, and shows networks without a family in one table."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

from object_store.opening import open_store
from planner.names import network_name
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from serving.cli.main import app
from tests.networks import unet

CHANNELS = (16, 32, 64)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of a base, a variant and a folded one; and two networks that are like no other."""
    folder = tmp_path_factory.mktemp("networks")
    models = {
        "base": unet(3, CHANNELS),
        "site": unet(3, CHANNELS, norm_seed=5),
        "folded": unet(3, CHANNELS, "folded", norm_seed=6),
        "tiny": unet(7, (8, 16)),
        "deep": unet(3, (8, 16), dims=3, classes=4),
    }
    with open_store(folder / "store") as store:
        for name, model in models.items():
            onnx.save(model, folder / f"{name}.onnx")
            digest = register(store, open_network(folder / f"{name}.onnx")).network
            store.names.set(network_name(name), digest)
    return folder / "store"


def lightbox(store: Path, *words: str) -> Result:
    result = CliRunner().invoke(app, [*words, "--store", str(store)])
    assert result.exit_code == 0, result.output
    return result


def family(store: Path, *words: str) -> Any:
    return json.loads(lightbox(store, "explain", "--family", *words, "--json").stdout)["families"]


def test_networks_without_a_family_are_one_table(networks: Path, tmp_path: Path) -> None:
    svg = tmp_path / "family.svg"
    told = lightbox(networks, "explain", "--family", "--svg", str(svg)).stdout
    assert "family of 3:" in told
    assert "family of 1:" not in told
    assert "2 networks without a family" in told
    picture = svg.read_text(encoding="utf-8")
    assert "2 networks without a family" in picture
    assert picture.count("Base, layer by layer") == 1
    assert len(family(networks)) == 3  # as JSON all are alike


def test_a_network_that_is_asked_for_is_shown_in_full(networks: Path, tmp_path: Path) -> None:
    svg = tmp_path / "family.svg"
    told = lightbox(networks, "explain", "--family", "tiny", "--svg", str(svg)).stdout
    assert "family of 1:" in told
    assert "without a family" not in told
    assert "Base, layer by layer" in svg.read_text(encoding="utf-8")


def test_sizes_say_what_they_count_and_what_goes_at_promotion(networks: Path) -> None:
    (found,) = family(networks, "base")
    (waiting,) = [sum(m["until_verified"].values()) for m in found["members"] if m["until_verified"]]
    told = lightbox(networks, "explain", "--family", "base").stdout
    size = f"{waiting / 1000:.1f} KB"
    assert f"numbers only, without records; plus {size} until verified (at promotion)" in told
    (row,) = [line for line in told.splitlines() if line.startswith("folded ")]
    assert size in row
    assert "to be verified" in row


def test_words_that_are_used_are_explained_and_no_others(networks: Path) -> None:
    told = lightbox(networks, "explain", "--family", "base").stdout
    assert "\nlifted: each member's own small tensor, fed with each run\n" in told
    assert "\nscaled: the base's, times a factor per channel\n" in told
    assert "\nexact: bit for bit" in told
    assert "any size, equal where the name is" in told
    assert "low-rank:" not in told
    alone = lightbox(networks, "explain", "--family", "tiny").stdout
    assert "lifted:" not in alone
    assert "exact:" not in alone
