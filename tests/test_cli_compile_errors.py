"""What `compile` says of a pipeline whose network is not right: which, where, and what of the others."""

from pathlib import Path

from tests.network_commands import CHANNELS, answer, lightbox, pipeline, written
from tests.networks import unet


def test_an_error_of_a_network_names_the_file_and_line_of_its_pipeline(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello", encoding="utf-8")
    bad = pipeline(tmp_path, "bad", "text.onnx")
    result = lightbox(tmp_path / "store", "compile", bad, "--no-measure")
    assert result.exit_code == 2
    assert result.stderr == f"lightbox: {bad}:4: steps.net.graph: text.onnx: no ONNX model (not-onnx)\n"


def test_of_several_pipelines_that_at_fault_is_named_and_the_others_are_said_to_be_left(
    tmp_path: Path,
) -> None:
    graph = written(tmp_path / "good.onnx", unet(3, CHANNELS))
    (tmp_path / "text.onnx").write_text("hello", encoding="utf-8")
    files = [
        pipeline(tmp_path, "one", graph),
        pipeline(tmp_path, "two", "text.onnx"),
        pipeline(tmp_path, "three", graph),
    ]
    store = tmp_path / "store"
    result = lightbox(store, "compile", *files, "--no-measure")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith(f"lightbox: {files[1]}:4: steps.net.graph: text.onnx: ")
    assert second == "lightbox: so none of the 3 pipelines was compiled; the store's are as before"
    assert answer(lightbox(store, "store", "ls", "plan/", "--json")) == {}


def test_the_line_is_that_of_the_file_that_has_the_key(tmp_path: Path) -> None:
    """A pipeline that extends another is at fault where the other names the network."""
    (tmp_path / "text.onnx").write_text("hello", encoding="utf-8")
    parent = pipeline(tmp_path, "parent", "text.onnx")
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\npipeline: child\n", encoding="utf-8")
    result = lightbox(tmp_path / "store", "compile", child, "--no-measure")
    assert f"{parent}:4: steps.net.graph" in result.stderr


def test_one_plan_is_one_plan(tmp_path: Path) -> None:
    graph = written(tmp_path / "good.onnx", unet(3, CHANNELS))
    told = lightbox(tmp_path / "store", "compile", pipeline(tmp_path, "one", graph), "--no-measure").stdout
    assert told.rstrip().endswith(" stages, 1 plan")
