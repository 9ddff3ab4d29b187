"""Errors of tensors that lie beside the file say which tensor, and which file."""

from pathlib import Path

import onnx
import pytest

from planner.networks.errors import NetworkRefused
from planner.networks.reading.opening import open_network
from tests.networks import unet


def beside(folder: Path, **changed: str) -> Path:
    """A network whose large tensors lie in `beside.bin`, with other words for where."""
    path = folder / "net.onnx"
    onnx.save(unet(3), path, save_as_external_data=True, location="beside.bin", size_threshold=1000)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = changed.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"location": "../up.bin"},
            r"its file '\.\./up\.bin' is outside the model's folder \(path-traversal\)",
        ),
        ({"location": "gone.bin"}, r"its file 'gone\.bin' is not there \(missing-data\)"),
        ({"location": "folder"}, r"its file 'folder' is a folder or a device \(missing-data\)"),
        (
            {"location": "short.bin"},
            r"its file 'short\.bin' has 100 bytes and ends before the tensor does, at",
        ),
        ({"length": "7"}, r"has \d+ bytes by its shape, and is said to have 7 \(absurd-shape\)"),
        ({"offset": "-1"}, r"offset or length of its external data is no number \(corrupt\)"),
    ],
)
def test_the_tensor_and_its_file_are_named(tmp_path: Path, changed: dict[str, str], told: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "short.bin").write_bytes(bytes(100))
    with pytest.raises(NetworkRefused, match=rf"^net\.onnx: tensor 'down0\.1\.weight': {told}"):
        open_network(beside(tmp_path, **changed))


def test_a_long_path_of_a_stranger_is_cut_and_stays_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(NetworkRefused) as refused:
        open_network(beside(tmp_path, location="../" + "\n" * 5000))
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "nothere.onnx", "there is no such file"), (tmp_path, "is a folder")):
        with pytest.raises(NetworkRefused, match=rf"{path.name}: {told} \(missing-data\)"):
            open_network(path)
