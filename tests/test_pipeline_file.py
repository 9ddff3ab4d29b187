"""A pipeline file is read as it is meant, or refused with its file, line and key."""

import textwrap
from pathlib import Path

import pytest

from models.errors import PipelineError
from models.operators.base import Operator
from models.pipeline import Pipeline, check
from models.pipeline_file import bundled_pipelines, pipeline_path, read_pipeline
from models.values import HU, Kind, ValueType
from tests.fake_operators import FAKES, FakeAdd

TEXT = """\
pipeline: things
version: "1.0"
title: Things by density
input: {modality: CT, min_slices: 3}
steps:
  images: {op: decode, of: series}
  volume: {op: stack, of: images}
  lifted: {op: add, of: volume, amount: 10}
  thing: {op: threshold, of: lifted, above: 100}
  numbers: {op: measure, of: [thing, volume]}
outputs:
  thing:
    description: A thing
    mask: thing
    measurements: numbers
    segments:
      - {name: thing, category: ["1", SCT, Thing], type: ["2", SCT, Dense thing], color: [1, 2, 3]}
"""


def written(folder: Path, text: str = TEXT, name: str = "things.yaml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def read(path: Path) -> Pipeline:
    return read_pipeline(path, FAKES)


def refused(folder: Path, text: str) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        read(written(folder, text))
    return caught.value


def test_a_file_becomes_a_pipeline(tmp_path: Path) -> None:
    pipeline = read(written(tmp_path))
    assert [step.name for step in pipeline.steps] == ["images", "volume", "lifted", "thing", "numbers"]
    assert pipeline.step("lifted").operator == FakeAdd(amount=10.0)
    assert pipeline.step("numbers").inputs == ("thing", "volume")
    assert pipeline.outputs[0].segments[0].type == ("2", "SCT", "Dense thing")
    assert pipeline.contract.min_slices == 3
    assert pipeline.research_use_only
    assert check(pipeline)["lifted"] == ValueType(kind=Kind.VOLUME, unit=HU, on_source_grid=True)


def test_steps_may_be_written_in_any_order(tmp_path: Path) -> None:
    lines = TEXT.splitlines(keepends=True)
    shuffled = "".join([*lines[:5], *reversed(lines[5:10]), *lines[10:]])
    steps = list(check(read(written(tmp_path, shuffled))))
    assert steps.index("images") < steps.index("volume") < steps.index("lifted") < steps.index("thing")


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("title: Things by density", "titel: x", 3, "titel", "not a key of a pipeline"),
        ("title: Things by density\n", "", 1, "title", "missing"),
        ("min_slices: 3", "min_slice: 3", 4, "input.min_slice", "not a setting"),
        ("min_slices: 3", "min_slices: 0", 4, "input.min_slices", "above 0"),
        ('version: "1.0"', "version: 1.0", 2, "version", "a text (quote it)"),
        ("amount: 10", "amuont: 10", 8, "steps.lifted.amuont", "known: amount"),
        ("amount: 10", "amount: ten", 8, "steps.lifted.amount", "a number"),
        ("amount: 10", "amount: 2026-01-01", 8, "steps.lifted.amount", "in quotes"),
        (", amount: 10", "", 8, "steps.lifted.amount", "missing"),
        ("op: add,", "op: addd,", 8, "steps.lifted.op", "no operator 'addd'"),
        ("of: lifted", "of: lifetd", 9, "steps.thing.of", "no step 'lifetd'"),
        ("of: volume", "of: thing", 8, "steps.lifted.of", "needs its own result"),
        ("of: [thing, volume]", "of: [volume, thing]", 10, "steps.numbers.of", "reads label_map, volume"),
        ("above: 100", "above: 100, unit: '1'", 9, "steps.thing.unit", "the volume is in [hnsf'U]"),
        ("above: 100", "above: 100, on_grid: false", 14, "outputs.thing.mask", "not on the source grid"),
        ("mask: thing", "mask: lifted", 14, "outputs.thing.mask", "not a label_map"),
        ("mask: thing", "mask: nothing", 14, "outputs.thing.mask", "no step 'nothing'"),
        ("nts: numbers", "nts: thing", 15, "outputs.thing.measurements", "not measurements"),
        ("    measurements: numbers\n", "", 10, "steps.numbers", "no output needs this step"),
        ("{name: thing,", "{name: stuff,", 16, "outputs.thing.segments", "gives thing"),
        ("color: [1, 2, 3]", "colour: [1, 2, 3]", 17, "outputs.thing.segments.0.colour", "not a setting"),
        ("color: [1, 2, 3]", "color: [1, 2, 300]", 17, "outputs.thing.segments.0.color", "0 to 255"),
        ("description: A thing", "encoding: PNG", 13, "outputs.thing.encoding", "one of BINARY"),
        ("  lifted: {op", "  images: {op", 8, "steps.images", "twice (first in line 6)"),
        ("pipeline: things", "pipeline: My Things", 1, "pipeline", "must be of a-z"),
        ("outputs:", "outputs: [", 11, "", "is not YAML"),
    ],
)
def test_an_error_names_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, key: str, says: str
) -> None:
    assert old in TEXT
    error = refused(tmp_path, TEXT.replace(old, new, 1))
    assert error.file == str(tmp_path / "things.yaml")
    assert (error.key, says in error.message) == (key, True), str(error)
    if key or "YAML" not in says:
        assert error.line == line
        assert str(error).startswith(f"{error.file}:{line}: {key}: ")


def test_an_empty_file_and_a_list_are_refused(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path, "").message
    assert "is a mapping" in refused(tmp_path, "- a\n").message
    assert "nested" in refused(tmp_path, "a: &a [*a]\n").message


def test_extends_overrides_single_settings_and_keeps_the_rest(tmp_path: Path) -> None:
    parent = read(written(tmp_path))
    child = read(
        written(
            tmp_path,
            """\
            extends: things.yaml
            pipeline: other-things
            steps:
              lifted: {amount: 20}
            """,
            "other.yaml",
        )
    )
    assert child.name == "other-things"
    assert child.step("lifted").operator == FakeAdd(amount=20.0)
    assert child.step("thing") == parent.step("thing")
    assert child.outputs == parent.outputs


def test_extends_may_add_replace_and_remove(tmp_path: Path) -> None:
    written(tmp_path)
    child = read(
        written(
            tmp_path,
            """\
            extends: things.yaml
            pipeline: more-things
            steps:
              lifted: ~
              thing: {op: threshold, of: volume, above: 5}
              denser: {op: threshold, of: volume, above: 50}
            outputs:
              denser:
                description: A denser thing
                mask: denser
                segments: [{name: thing, category: ["1", SCT, T], type: ["3", SCT, T]}]
            """,
            "more.yaml",
        )
    )
    assert {step.name for step in child.steps} == {"images", "volume", "thing", "numbers", "denser"}
    assert [output.name for output in child.outputs] == ["thing", "denser"]


def test_an_error_in_what_is_extended_names_that_file(tmp_path: Path) -> None:
    written(tmp_path, TEXT.replace("amount: 10", "amuont: 10"))
    with pytest.raises(PipelineError) as caught:
        read(written(tmp_path, "extends: things.yaml\npipeline: other\n", "other.yaml"))
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "things.yaml"), 8)


def test_extending_oneself_through_others_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "extends: b.yaml\npipeline: a\n", "a.yaml")
    written(tmp_path, "extends: a.yaml\npipeline: b\n", "b.yaml")
    with pytest.raises(PipelineError, match="in turn") as caught:
        read(tmp_path / "a.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'b.yaml'}:1: extends: ")


def test_extending_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no bundled pipeline 'nowhere'" in refused(tmp_path, "extends: nowhere\npipeline: a\n").message
    assert "no such file" in refused(tmp_path, "extends: nowhere.yaml\npipeline: a\n").message


def test_removing_what_is_not_there_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(PipelineError, match="nothing to remove") as caught:
        read(written(tmp_path, "extends: things.yaml\nsteps:\n  nope: ~\n", "other.yaml"))
    assert (caught.value.line, caught.value.key) == (3, "steps.nope")


def test_files_are_found_beside_the_yaml_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "w.npz").write_bytes(b"weights")
    old, new = "op: add, of: volume, amount: 10", "op: weighted, of: volume, weights: w.npz"
    written(tmp_path / "base", TEXT.replace(old, new))
    child = read(written(tmp_path, "extends: base/things.yaml\npipeline: other\n", "other.yaml"))
    operator: Operator = child.step("lifted").operator
    assert operator.blobs() == (str(tmp_path / "base" / "w.npz"),)
    assert "there is no file 'w.npz'" in refused(tmp_path, TEXT.replace(old, new)).message


@pytest.mark.parametrize("name", bundled_pipelines())
def test_a_bundled_pipeline_is_sound_and_named_like_its_file(name: str) -> None:
    pipeline = read_pipeline(pipeline_path(name))
    assert pipeline.name == name
    assert pipeline.research_use_only
    assert pipeline.golden
