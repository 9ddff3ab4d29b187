"""A contract lets through what it names and refuses the rest in one sentence."""

from typing import Any

import pytest

from models.contract import Contract, SeriesFacts

CONTRACT = Contract(min_slices=3, max_columns=512, max_slice_spacing_mm=5.0, min_pixel_spacing_mm=0.3)
FITTING: dict[str, Any] = {
    "modality": "CT",
    "images": 3,
    "rows": 512,
    "columns": 512,
    "slice_spacing_mm": 5.0000001,
    "pixel_spacing_mm": (0.7, 0.7),
}


def test_a_fitting_series_is_accepted() -> None:
    assert CONTRACT.violations(SeriesFacts(**FITTING)) == ()


def test_unknown_facts_are_not_judged() -> None:
    assert CONTRACT.violations(SeriesFacts(modality="CT", images=9)) == ()


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"modality": "MR"}, "not-ct", "Modality (0008,0060) is MR; must be CT"),
        ({"modality": ""}, "not-ct", "is empty"),
        ({"images": 2}, "outside-contract", "the number of images is 2; must be at least 3"),
        ({"columns": 1024}, "outside-contract", "Columns (0028,0011) is 1024; must be at most 512"),
        ({"slice_spacing_mm": 6.0}, "outside-contract", "distance between slices in mm is 6"),
        ({"pixel_spacing_mm": (0.2, 0.2)}, "outside-contract", "Pixel Spacing (0028,0030) in mm is 0.2"),
    ],
)
def test_what_is_outside_is_refused_by_name(change: dict[str, Any], reason: str, says: str) -> None:
    (violation,) = CONTRACT.violations(SeriesFacts(**FITTING | change))
    assert violation.reason == reason
    assert says in violation.message
    assert "must be" in violation.message


def test_another_modality_is_outside_a_contract_that_is_not_for_ct() -> None:
    (violation,) = Contract(modality="MR").violations(SeriesFacts(modality="CT", images=1))
    assert violation.reason == "outside-contract"
