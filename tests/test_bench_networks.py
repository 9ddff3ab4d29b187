"""The benches of families and of planning, on networks so small that they take seconds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from loadtest.benches import variants
from loadtest.benches.__main__ import main
from loadtest.benches.figures import Bar, Findings, at_most, figure
from loadtest.benches.networks import (
    answers,
    compiling,
    fold_pipeline,
    real_families,
    registering,
    side_by_side,
    window_inside,
)
from loadtest.benches.networks.side_by_side import OUTPUTS, Scale, compare, findings, with_verification
from loadtest.benches.networks.unet import Base
from loadtest.benches.plan import together
from models.engines.onnxruntime import OnnxSession
from models.pipeline_file import ZOO
from object_store.opening import open_store
from planner.networks.families.known import known_networks
from tests.networks import run

TINY = Scale(variants=12, black_box_at=(1, 2), sampled=1, rounds=2, channels=(8, 64), side=32)


def quiet(line: str) -> None:
    return


def bars(found: Findings) -> dict[str, Bar]:
    return {bar.name: bar for bar in found.bars}


def note(found: Findings, word: str) -> str:
    (said,) = (line for line in found.notes if word in line)
    return said


def test_site_variants_are_one_base_and_answer_as_their_files_do() -> None:
    found = compare(TINY, quiet, folded=False, at_defaults=True)
    assert bars(found)[OUTPUTS].holds
    assert note(found, "from each one's file").startswith("12 variants answered")
    assert bars(found)["bases that the variants have"].measured == "1 bases"
    memory = [key for key in found.figures if key.startswith("memory of all variants")]
    assert len(memory) == 2
    assert all(found.figures[key].lightbox > 0 for key in memory)
    said = [*found.figures, *bars(found), *found.notes]
    assert not any("verif" in words for words in said), "members kept exactly pass without a run"


def test_folded_variants_are_unfolded_to_one_base_and_answer_as_their_files_do() -> None:
    found = compare(TINY, quiet, folded=True, at_defaults=False)
    assert bars(found)[OUTPUTS].holds
    assert bars(found)["bases that the variants have"].measured == "1 bases"
    assert note(found, "verified").startswith("12 variants verified")
    moved = float(note(found, "verified").rpartition(" ")[2].removesuffix("."))
    assert 0 < moved <= 1e-5  # by the rounding of what was folded: it is the base's filters that answered
    stored = found.figures["bytes in the store"]
    assert stored.baseline is not None
    assert stored.lightbox < stored.baseline / 2  # of twelve files


def programs(count: int) -> dict[str, Any]:
    """What the programs would write of `count` variants."""
    row = {
        "network": "n",
        "new_base": False,
        "read_s": 0.01,
        "register_s": 0.03,
        "processor_s": 0.02,
        "verify_s": 0.1,
        "largest_difference": 1e-6,
        "verified": True,
    }
    seconds = {"first": [0.11] * count, "later": [0.1] * count}
    return {
        "rows": [row] * count,
        "further": {"few": [0.02] * 15, "all": [0.022] * 15},
        "family": {
            "bytes": 9e6,
            "engine_bytes": 11e6,
            "stage_bytes": 6e6,
            "empty_bytes": 40e6,
            "worker_bytes": 90e6,
            "seconds": seconds,
        },
        "tuned": {"bytes_at": {"10": 100e6, "20": 150e6, "40": 250e6}, "first_answer_s": [0.2]},
        "turns": [{"seconds": {"lightbox": [0.1], "dedicated": [0.1]}, "difference": 1e-6}],
        "answered": [1e-6] * count,
    }


def found_of(scale: Scale, parts: Mapping[str, Any]) -> Findings:
    base = Base(TINY.channels)
    rows, further, family, tuned = parts["rows"], parts["further"], parts["family"], parts["tuned"]
    found = findings(
        scale,
        base,
        rows,
        further,
        10**6,
        10**6,
        family,
        tuned,
        None,
        parts["turns"],
        parts["answered"],
    )
    return with_verification(found, scale, rows)


def test_sessions_that_were_not_opened_are_extrapolated_along_a_line() -> None:
    scale = Scale.of(quick=False)
    found = found_of(scale, programs(scale.variants))
    memory = found.figures["memory of all variants, against tuned sessions"]
    assert memory.baseline == pytest.approx(50 + 5 * 250)
    assert bars(found)["memory of tuned sessions / ours"].measured == "65 x"


def test_an_empty_worker_has_no_engine_loaded_and_what_that_takes_counts(tmp_path: Path) -> None:
    found = side_by_side._program("empty", tmp_path)
    assert found["worker_bytes"] > found["engine_bytes"] > 1e6


def test_both_series_of_readings_are_told() -> None:
    parts = programs(12)
    defaults = {**parts["tuned"], "bytes_at": {"10": 200e6, "20": 390e6, "40": 800e6}}
    found = findings(
        Scale.of(quick=False),
        Base(TINY.channels),
        parts["rows"],
        parts["further"],
        10**6,
        10**6,
        parts["family"],
        parts["tuned"],
        defaults,
        parts["turns"],
        parts["answered"],
    )
    assert "10: 100 MB, 20: 150 MB, 40: 250 MB" in note(found, "Tuned sessions")
    assert "10: 200 MB, 20: 390 MB, 40: 800 MB" in note(found, "Sessions at defaults")


def test_variants_whose_latency_is_measured_are_spread_over_all() -> None:
    picked = side_by_side.picked_of(Scale.of(quick=False))
    assert (picked[0], picked[-1], len(set(picked))) == (0, 249, 10)
    assert max(np.diff(picked)) <= 28


def test_a_store_in_which_registering_takes_longer_the_more_it_holds_fails_its_bar() -> None:
    scale = Scale.of(quick=False)
    parts = programs(scale.variants)
    parts["rows"][0] = {**parts["rows"][0], "new_base": True}
    parts["further"] = {"few": [0.02, 0.03, 0.02], "all": [0.026, 0.02, 0.03]}
    (bar,) = (bar for bar in found_of(scale, parts).bars if not bar.holds)
    assert (bar.name, bar.measured) == ("registering number 251 / number 11", "1.3 x")


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"new_base": True}, "bases that the variants have"),
        ({"verified": False}, "variants verified"),
        ({"largest_difference": 2e-5}, "largest difference at promotion, of the largest magnitude"),
    ],
)
def test_a_variant_that_was_not_understood_fails_its_bar(change: dict[str, Any], fails: str) -> None:
    scale = Scale.of(quick=False)
    parts = programs(scale.variants)
    parts["rows"][0] = {**parts["rows"][0], "new_base": True}
    assert all(bar.holds for bar in found_of(scale, parts).bars)
    parts["rows"][7] = {**parts["rows"][7], **change}
    assert [bar.name for bar in found_of(scale, parts).bars if not bar.holds] == [fails]


@pytest.mark.parametrize("where", ["answered", "turns"])
def test_one_variant_whose_answer_is_not_its_files_fails_the_bar(where: str) -> None:
    scale = Scale.of(quick=False)
    parts = programs(scale.variants)
    parts["rows"][0] = {**parts["rows"][0], "new_base": True}
    parts[where][-1] = 2e-5 if where == "answered" else {**parts[where][-1], "difference": 2e-5}
    assert [bar.name for bar in found_of(scale, parts).bars if not bar.holds] == [OUTPUTS]


def test_every_variant_is_compared_with_the_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = tmp_path / "networks.json"
    registering.main([str(tmp_path / "store"), "--count", "3", "--channels", "8", "16"])
    rows = json.loads(capsys.readouterr().out)["variants"]

    def differences(order: Sequence[int]) -> list[float]:
        networks.write_text(json.dumps([rows[place]["network"] for place in order]), encoding="utf-8")
        answers.main([str(tmp_path / "store"), str(networks), "--channels", "8", "16"])
        found: list[float] = json.loads(capsys.readouterr().out)["differences"]
        return found

    assert len(differences([0, 1, 2])) == 3
    assert max(differences([0, 1, 2])) <= side_by_side.OUTPUTS_WITHIN
    assert differences([0, 2, 2])[1] > 1e-3  # another variant's answer is told from its own


def test_a_bar_for_250_variants_is_not_held_against_a_few() -> None:
    scale = Scale.of(quick=True)
    found = found_of(scale, programs(scale.variants))
    assert scale.variants < side_by_side.VARIANTS
    assert not any(name.startswith("memory") for name in bars(found))


def test_the_last_compilations_are_set_against_those_up_to_the_tenth() -> None:
    found = compiling.measure(12, quiet, processes=1)
    assert list(found.figures) == [
        "compiling variant number 10",
        "compiling variant number 12",
        "lightbox compile after 10 variants",
        "lightbox compile after 12 variants",
    ]
    assert [one.samples for one in found.figures.values()] == [5, 5, 1, 1]
    assert list(bars(found)) == [
        "compiling number 12 / number 10",
        "lightbox compile, a process of its own, after 12 / after 10",
    ]


def test_the_command_that_compiles_leaves_the_variant_in_the_store(tmp_path: Path) -> None:
    (seconds,) = compiling._by_command(tmp_path, range(1))
    assert seconds > 0
    with open_store(tmp_path / "store") as store:
        assert len(known_networks(store)) == 1


def test_five_folds_cut_every_tile_once_and_prepare_the_series_once(tmp_path: Path) -> None:
    found = fold_pipeline.measured(tmp_path)
    assert all(bar.holds for bar in found.bars)
    for counted in found.figures.values():
        assert counted.baseline == 5 * counted.lightbox


def test_folds_that_are_cut_or_prepared_apart_fail_their_bars() -> None:
    once = {"decode": 1, "stack": 1, "network_ensemble": 1}
    apart = {"decode": 5, "stack": 5, "network": 5}
    assert all(bar.holds for bar in fold_pipeline.findings(once, apart, 18, 90, 0.0).bars)
    failing = [b.name for b in fold_pipeline.findings(apart, apart, 90, 90, 0.0).bars if not b.holds]
    assert failing == [
        "times each tile is cut for five folds",
        "runs of a preprocessing operator for five folds",
    ]


def test_a_network_exported_in_two_computes_what_it_does_whole() -> None:
    base = Base((4, 8))
    encoder, decoder = base.apart(0)
    image = np.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype(np.float32)
    crossing = OnnxSession(encoder.SerializeToString()).run({"image": image})
    assert [array.shape for array in crossing] == [(1, 4, 16, 16), (1, 8, 8, 8)]
    fed = dict(zip([port.name for port in decoder.graph.input], crossing, strict=True))
    (apart,) = OnnxSession(decoder.SerializeToString()).run(fed)
    (whole,) = OnnxSession(base.model(0, folded=False).SerializeToString()).run({"image": image})
    np.testing.assert_allclose(apart, whole, atol=1e-6)


def test_parts_of_a_bench_become_one_in_order() -> None:
    one = Findings(
        figures={"a": figure([1.0], unit="s", better="lower")}, bars=[at_most("a", 1, 2, "s")], notes=["A."]
    )
    other = Findings(figures={"b": figure([1.0], unit="s", better="lower")}, bars=[], notes=["B."])
    both = together([one, other])
    assert (list(both.figures), [bar.name for bar in both.bars], both.notes) == (
        ["a", "b"],
        ["a"],
        ["A.", "B."],
    )


def test_without_the_real_data_planning_is_not_measured_and_one_sentence_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(real_families, "DATA", tmp_path / "nothing")
    assert main(["plan", "--quick"]) == 2
    said = capsys.readouterr().err
    assert "plan could not be measured: the real networks and images in ../shared/data are not there" in said


def test_the_benches_of_families_measure_both_kinds_of_export(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Scale, bool]] = []

    def compared(scale: Scale, say: Any, *, folded: bool, at_defaults: bool) -> Findings:
        asked.append((scale, folded))
        return Findings(figures={}, bars=[])

    from loadtest.benches import fold

    monkeypatch.setattr(variants, "compare", compared)
    monkeypatch.setattr(fold, "compare", compared)
    variants.run(True, quiet)
    fold.run(False, quiet)
    assert asked == [(Scale.of(True), False), (Scale.of(False), True)]


def test_the_window_in_the_graph_computes_what_the_kernel_and_the_graph_do() -> None:
    found = window_inside.run(True, lambda text: None)
    (figure,) = found.figures.values()
    assert figure.baseline is not None
    model = onnx.load(ZOO / f"{window_inside.NETWORK}.onnx")
    hu = np.random.default_rng(1).uniform(-1500, 1500, (1, 1, 32, 32)).astype(np.float32)
    scaled = (np.clip(hu, window_inside.LOW, window_inside.HIGH) - window_inside.LOW) / np.float32(1400)
    (theirs,) = run(model, {"input": scaled})
    (ours,) = run(window_inside.windowed(model), {"window.hu": hu})
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
