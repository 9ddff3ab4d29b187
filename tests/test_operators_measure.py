"""Measurements are in the units they say, and None where there is nothing to measure."""

import numpy as np
import pytest

from models.errors import PipelineError
from models.operators.measure import Measure, Quantity
from models.values import HU, Kind, ValueType
from tests.imaging_cases import applied, grid, mask, volume

ALL: tuple[Quantity, ...] = (
    "volume",
    "mean",
    "std",
    "minimum",
    "maximum",
    "median",
    "percentile15",
    "laa950",
)


def test_every_quantity_is_what_its_name_says() -> None:
    spacing = grid((5.0, 1.0, 2.0))
    ct = volume([[[-1000.0, -960.0, -940.0, -900.0, 70.0]]], spacing)
    labels = mask([[[1, 1, 1, 1, 0]]], spacing, "Lung", "Nothing")
    items = applied(Measure(quantities=ALL), labels, ct).items
    found = {item.quantity: (item.value, item.unit) for item in items if item.segment == "Lung"}
    values = np.array([-1000.0, -960.0, -940.0, -900.0])
    assert found == {
        "volume": (0.04, "mL"),
        "mean": (-950.0, HU),
        "std": (pytest.approx(values.std(), rel=1e-5), HU),
        "minimum": (-1000.0, HU),
        "maximum": (-900.0, HU),
        "median": (-950.0, HU),
        "percentile15": (pytest.approx(np.percentile(values, 15), rel=1e-5), HU),
        "laa950": (50.0, "%"),
    }
    assert [item.segment for item in items] == ["Lung"] * 8 + ["Nothing"] * 8


def test_nothing_found_is_no_volume_and_no_density() -> None:
    empty = mask(np.zeros((2, 2, 2)), None, "Lung")
    items = applied(Measure(quantities=ALL), empty, volume(np.zeros((2, 2, 2)))).items
    assert [item.value for item in items] == [0.0] + [None] * 7


def test_unknown_or_repeated_quantities_are_refused() -> None:
    for quantities in (["volume", "volume"], [], ["weight"]):
        with pytest.raises(PipelineError) as refused:
            Measure.from_parameters({"quantities": quantities})
        assert refused.value.key.startswith("quantities")


def test_density_needs_hounsfield_units() -> None:
    types = [ValueType(kind=Kind.LABEL_MAP), ValueType(kind=Kind.VOLUME, unit="1")]
    with pytest.raises(PipelineError, match="needs a volume in HU"):
        Measure(quantities=("mean",)).infer(types)
