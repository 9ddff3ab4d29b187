"""The benchmark of upsampling compares two independent computations, and says how far they agree."""

import numpy as np
import pytest

from loadtest.benches import upsample
from loadtest.benches.upsample import everything, measured, noise, organ_like


def test_class_values_like_organs_have_a_background_and_every_class_somewhere() -> None:
    logits = organ_like((16, 64, 64), classes=60)
    labels = logits.argmax(axis=0)
    assert logits.dtype == np.float32
    assert 0.2 < (labels == 0).mean() < 0.9
    assert len(np.unique(labels)) > 45
    np.testing.assert_array_equal(logits, organ_like((16, 64, 64), classes=60))


def test_the_full_computation_finds_ties() -> None:
    logits = noise((3, 6, 6), classes=4)
    logits[2] = logits[1] * np.float32(1 + 1e-6)
    full = everything(logits, (4, 9, 9))
    of_the_two = (full.labels == 1) | (full.labels == 2)
    assert of_the_two.any()
    assert full.near_ties[of_the_two].all()
    assert not full.near_ties.all()


def test_a_run_has_figures_of_both_sides_and_no_label_that_differs_but_for_ties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upsample, "QUICK_COARSE", (5, 24, 24))
    monkeypatch.setattr(upsample, "QUICK_FINE", (7, 46, 46))
    figures, bars, notes = measured(quick=True, say=lambda text: None)
    assert [key for key in figures if key.startswith("upsample-argmax")] == [
        "upsample-argmax of 105 classes, organs",
        "upsample-argmax of 105 classes, noise",
    ]
    assert all(figure.baseline is not None for figure in figures.values())
    differing = [bar for bar in bars if bar.name.startswith("labels that differ")]
    assert [bar.holds for bar in differing] == [True, True]
    assert sum("labels differ from the full computation" in note for note in notes) == 2
