"""The command line in this process, and files of small networks for it."""

import json
from pathlib import Path
from typing import Any

import onnx
from typer.testing import CliRunner, Result

from serving.cli.main import app
from tests.networks import low_rank_variant, unet

CHANNELS = (16, 32)


def lightbox(store: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--store", str(store)])


def answer(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def written(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def family_files(folder: Path) -> list[Path]:
    """A base, then a variant with lifted tensors, one with scaled filters, one with low-rank differences."""
    models = {
        "unet": unet(3, CHANNELS),
        "site": unet(3, CHANNELS, norm_seed=5),
        "folded": unet(3, CHANNELS, norm_seed=5, norm="folded"),
        "lora": low_rank_variant(unet(3, CHANNELS), 1, rank=1),
    }
    return [written(folder / f"{name}.onnx", model) for name, model in models.items()]


def pipeline(folder: Path, name: str, graph: Path | str) -> Path:
    """The bundled pipeline over another network, as a YAML file whose line 4 names the graph."""
    path = folder / f"{name}.yaml"
    path.write_text(
        f"extends: ct-lungs-net\npipeline: {name}\nsteps:\n"
        f"  net: {{graph: {graph}, input: input, mode: slices, segments: [Left lung, Right lung]}}\n"
        "golden: ~\n",
        encoding="utf-8",
    )
    return path
