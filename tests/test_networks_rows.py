"""Which values are computed item by item: where that is not certain, the answer is no."""

import msgspec
import numpy as np
import pytest

from planner.networks.building.editing import shapes_of
from planner.networks.building.rows import items_apart, row_wise
from planner.networks.structure import Op, Port, Structure, TensorType


def product(*shape: int | str) -> Structure:
    """y0 = x0 @ relu(x0)."""
    return Structure(
        opset=17,
        inputs=(Port("x0", "float32", shape),),
        outputs=(Port("y0", "float32", ("n",) * len(shape)),),
        tensors={},
        constants={},
        ops=(Op("Relu", ("x0",), ("v0",)), Op("MatMul", ("x0", "v0"), ("y0",))),
    )


def apart(structure: Structure) -> bool:
    return items_apart(structure, {name: len(shape) for name, shape in shapes_of(structure).items()})


@pytest.mark.parametrize(("shape", "wanted"), [(("n",), False), (("n", 3), False), (("n", 3, 3), True)])
def test_a_product_of_two_values_keeps_items_apart_only_from_three_axes_on(
    shape: tuple[int | str, ...], wanted: bool
) -> None:
    assert apart(product(*shape)) is wanted


def test_a_product_of_values_whose_axes_nobody_knows_keeps_nothing_apart() -> None:
    structure = msgspec.structs.replace(product("n", 3, 3), ops=(Op("MatMul", ("x0", "x0"), ("y0",)),))
    assert row_wise(structure, {"x0": 3, "y0": 3}) == {"x0", "y0"}
    assert row_wise(structure, {}) == {"x0"}


def test_a_product_with_a_matrix_keeps_items_apart() -> None:
    structure = Structure(
        opset=17,
        inputs=(Port("x0", "float32", ("n", 4)),),
        outputs=(Port("y0", "float32", ("n", 2)),),
        tensors={"t0": TensorType("float32", np.zeros((4, 2)).shape)},
        constants={},
        ops=(Op("MatMul", ("x0", "t0"), ("y0",)),),
    )
    assert apart(structure)
