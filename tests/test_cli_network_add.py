"""`network add` and `network list`: what networks are called, how they differ, and what of the rest."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.network_commands import CHANNELS, answer, family_files, lightbox, pipeline, written
from tests.networks import unet


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


# -- names -------------------------------------------------------------------------------------------------


def test_two_files_of_one_name_are_refused_and_nothing_is_taken(store: Path, tmp_path: Path) -> None:
    files = [written(tmp_path / f"{n}" / "site.onnx", unet(n, CHANNELS)) for n in range(3)]
    added = lightbox(store, "network", "add", *files)
    assert added.exit_code == 2
    assert added.stderr.startswith(f"lightbox: three files would be called 'site': {files[0]}, ")
    assert "--name" in added.stderr
    assert answer(lightbox(store, "network", "list", "--json")) == []


def test_a_file_called_model_is_named_by_its_folder(store: Path, tmp_path: Path) -> None:
    files = [written(tmp_path / name / "model.onnx", unet(n, CHANNELS)) for n, name in enumerate("AB")]
    added = answer(lightbox(store, "network", "add", *files, "--json"))
    assert [row["name"] for row in added] == ["a", "b"]


def test_a_name_is_taken_from_another_network_only_when_asked_to(store: Path, tmp_path: Path) -> None:
    first, second = (written(tmp_path / f"{n}.onnx", unet(n, CHANNELS)) for n in range(2))
    before = answer(lightbox(store, "network", "add", first, "--name", "site", "--json"))[0]["network"]
    again = ("network", "add", second, "--name", "site")
    refused = lightbox(store, *again)
    assert refused.exit_code == 1
    assert f"not taken: 1.onnx: the name 'site' stands for another network, {before[7:19]}" in refused.stdout
    assert "--move" in refused.stdout
    listed = answer(lightbox(store, "network", "list", "--json"))
    assert [(row["network"], row["names"]) for row in listed] == [(before, ["site"])]
    moved = lightbox(store, *again, "--move")
    assert moved.exit_code == 0, moved.output
    assert f"'site' stood for {before[7:19]} before" in moved.stdout
    names = {row["network"]: row["names"] for row in answer(lightbox(store, "network", "list", "--json"))}
    assert names.pop(before) == []
    assert list(names.values()) == [["site"]]


def test_the_same_file_under_its_name_again_is_no_conflict(store: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "site.onnx", unet(1, CHANNELS))
    lightbox(store, "network", "add", path)
    again = lightbox(store, "network", "add", path, path)
    assert again.exit_code == 0, again.output
    assert "was there" in again.stdout
    assert "\n1 network, 0 B added" in again.stdout


# -- how they differ ---------------------------------------------------------------------------------------


def test_listing_says_of_each_network_what_adding_said(store: Path, tmp_path: Path) -> None:
    files = family_files(tmp_path)
    added = answer(lightbox(store, "network", "add", *files, "--json"))
    kept = {row["network"]: row["kept"] for row in added}
    assert [set(kept[row["network"]]) for row in added] == [
        {"stored"},
        {"lifted"},
        {"lifted", "scaled"},
        {"low_rank"},
    ]
    listed = answer(lightbox(store, "network", "list", "--json"))
    members = [row for row in listed if row["network"] != row["family"]]
    assert len(members) == 3
    for row in members:
        assert row["kept"] == kept[row["network"]]
    again = answer(lightbox(store, "network", "add", *files, "--json"))
    assert {row["network"]: row["kept"] for row in again} == kept


def test_every_word_in_the_tables_is_explained_below_them(store: Path, tmp_path: Path) -> None:
    told = lightbox(store, "network", "add", *family_files(tmp_path)).stdout
    for word in ("lifted", "scaled", "low-rank", "until verified"):
        assert f"\n{word}: " in told
    assert "stored" not in told
    listed = lightbox(store, "network", "list").stdout
    for word in ("lifted", "scaled", "low-rank", "exact"):
        assert f"\n{word}: " in listed


def test_of_what_a_network_adds_it_is_said_how_much_goes_once_it_is_verified(
    store: Path, tmp_path: Path
) -> None:
    base, site, folded, lora = answer(lightbox(store, "network", "add", *family_files(tmp_path), "--json"))
    assert base["bytes_until_verified"] == site["bytes_until_verified"] == 0
    assert 0 < folded["bytes_until_verified"] < folded["bytes_added"]
    assert 0.5 * lora["bytes_added"] < lora["bytes_until_verified"] < lora["bytes_added"]
    stats = answer(lightbox(store, "store", "stats", "--json"))
    shown = {row["network"]: row["until_verified_bytes"] for row in stats["networks"]}
    for row in (base, site, folded, lora):
        assert shown[row["network"]] == row["bytes_until_verified"]


def test_one_network_is_not_said_to_take_less_than_itself(store: Path, tmp_path: Path) -> None:
    lightbox(store, "network", "add", written(tmp_path / "one.onnx", unet(1, CHANNELS)))
    told = lightbox(store, "store", "stats").stdout
    assert "\n1 network: " in told
    assert "times less" not in told


# -- what is not taken -------------------------------------------------------------------------------------


def with_if(path: Path) -> Path:
    model = unet(1, CHANNELS)
    branches = {
        f"{word}_branch": helper.make_graph(
            [helper.make_node("Identity", ["logits"], [word])],
            word,
            [],
            [helper.make_tensor_value_info(word, TensorProto.FLOAT, None)],
        )
        for word in ("then", "else")
    }
    model.graph.input.append(helper.make_tensor_value_info("sure", TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("If", ["sure"], ["either"], **branches))
    return written(path, model)


def of_opset(path: Path, opset: int) -> Path:
    model = unet(1, CHANNELS)
    model.opset_import[0].version = opset
    return written(path, model)


def lines_about(told: str) -> dict[str, str]:
    lines = [line.removeprefix("not taken: ") for line in told.splitlines() if line.startswith("not taken: ")]
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


def test_what_cannot_be_opened_is_named_with_advice(store: Path, tmp_path: Path) -> None:
    files = [with_if(tmp_path / "ifnet.onnx"), of_opset(tmp_path / "opset5.onnx", 5)]
    added = lightbox(store, "network", "add", *files)
    assert added.exit_code == 1
    assert lines_about(added.stdout) == {
        "ifnet.onnx": "operator If (control-flow)",
        "opset5.onnx": "opset 5 is not one of 11 to 26 (unknown-opset)",
    }
    assert "\nunknown-opset: export again with opset 11 or a later one" in added.stdout
    assert "\ncontrol-flow: a pipeline can still run such a file" in added.stdout
    assert "lightbox compile" in added.stdout


def test_files_of_one_name_in_several_folders_are_told_apart_by_their_paths(
    store: Path, tmp_path: Path
) -> None:
    files = [of_opset(tmp_path / name / "model.onnx", 5) for name in "ab"]
    added = lightbox(store, "network", "add", *files)
    assert set(lines_about(added.stdout)) == set(map(str, files))


def test_what_is_no_file_is_said_to_be_none(store: Path, tmp_path: Path) -> None:
    files = [tmp_path / "nothere.onnx", tmp_path / "site-*.onnxx", tmp_path]
    added = lightbox(store, "network", "add", *files)
    assert added.exit_code == 1
    assert lines_about(added.stdout) == {
        "nothere.onnx": "there is no such file (missing-data)",
        "site-*.onnxx": "there is no file of such a name (missing-data)",
        tmp_path.name: "is a folder (folder)",
    }


def test_a_file_of_the_right_length_is_damaged_and_a_short_one_ends_in_the_middle(
    store: Path, tmp_path: Path
) -> None:
    whole = written(tmp_path / "whole.onnx", unet(1, CHANNELS)).read_bytes()
    (tmp_path / "broken.onnx").write_bytes(whole[:60] + b"\xff" * 15 + whole[75:])
    (tmp_path / "short.onnx").write_bytes(whole[:5000])
    told = lines_about(
        lightbox(store, "network", "add", tmp_path / "broken.onnx", tmp_path / "short.onnx").stdout
    )
    assert told["broken.onnx"].startswith("is damaged: ")
    assert told["broken.onnx"].endswith("(corrupt)")
    assert told["short.onnx"] == "ends in the middle (truncated)"


def test_where_nothing_is_taken_there_is_no_empty_table(store: Path, tmp_path: Path) -> None:
    told = lightbox(store, "network", "add", tmp_path / "nothere.onnx").stdout.splitlines()
    assert told == ["not taken: nothere.onnx: there is no such file (missing-data)", "nothing was added"]


def test_learned_numbers_left_as_inputs_are_counted_not_listed(store: Path, tmp_path: Path) -> None:
    path = without_norms(tmp_path / "stripped.onnx", CHANNELS)
    added = lightbox(store, "network", "add", path)
    inputs = 1 + 4 * 6
    assert f"\nstripped has {inputs} inputs without values" in added.stdout
    assert "did an optimiser drop initialisers?" in added.stdout
    compiled = lightbox(store, "compile", pipeline(tmp_path, "mine", path), "--no-measure")
    assert compiled.exit_code == 2
    assert (
        f"{inputs} inputs without values (input, down0.0.norm.scale, down0.0.norm.bias and "
        in compiled.stderr
    )
    assert "did an optimiser drop initialisers?" in compiled.stderr
    assert "down0.0.norm.var" not in compiled.stderr


def without_norms(path: Path, channels: tuple[int, ...]) -> Path:
    model = unet(1, channels)
    for tensor in [t for t in model.graph.initializer if "norm" in t.name]:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
        model.graph.initializer.remove(tensor)
    return written(path, model)
