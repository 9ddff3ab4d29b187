"""The bundled network: what is committed, what a variant may change, and how well it finds lungs."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from models.operators.components import Components
from models.operators.intensity import Clip, Normalise
from models.operators.network import Network
from models.phantom import PhantomSpec
from models.pipeline import Pipeline
from models.pipeline_file import ZOO, pipeline_path, read_pipeline
from models.training import grid
from models.training.data import HELD_OUT_SEEDS, TRAINING_SEEDS, series_folder, training_spec
from models.training.evaluate import CHEST, dice, expected_mask, lungs_of, scanned_phantom, sides
from models.training.local import CONTEXT, read_parameters, stacked_volume
from models.training.sites import SITES
from models.values import LabelMap, SourcePlanes, Volume
from tests.conftest import absent

GRAPH = ZOO / "ct-lungs-net.onnx"
VARIANTS = [f"ct-lungs-net-{site.name}" for site in SITES]

Arrays = Mapping[str, NDArray[Any]]


def needed(package: str) -> Any:
    """A package that only tests and training need."""
    if find_spec(package) is None:
        absent(f"needs the package {package}")
    return import_module(package)


def read(name: str) -> Pipeline:
    return read_pipeline(pipeline_path(name))


def network_of(pipeline: Pipeline) -> Network:
    (network,) = (step.operator for step in pipeline.steps if isinstance(step.operator, Network))
    return network


@pytest.fixture(scope="module")
def session() -> OnnxSession:
    return OnnxSession(GRAPH.read_bytes())


@pytest.fixture(scope="module")
def defaults(session: OnnxSession) -> Arrays:
    """The normalisation tensors as the graph has them."""
    onnx = needed("onnx")
    initialisers = onnx.load(str(GRAPH)).graph.initializer
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in initialisers}
    return {name: tensors[name] for name in session.default_names}


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    """float32[1, 1, 64, 96]: noise, which every filter answers to."""
    return np.random.default_rng(0).random((1, 1, 64, 96), np.float32)


def test_the_network_and_its_variants_are_small() -> None:
    assert GRAPH.stat().st_size <= 2_000_000
    for variant in VARIANTS:
        assert (ZOO / f"{variant}.npz").stat().st_size <= 32_000, variant


def test_there_are_at_least_four_variants_and_each_is_a_pipeline() -> None:
    assert len(VARIANTS) >= 4
    assert [read(variant).name for variant in VARIANTS] == VARIANTS


def test_only_the_image_must_be_fed_and_only_normalisations_may_be_replaced(session: OnnxSession) -> None:
    assert session.input_names == ("input",)
    assert all(".norm." in name for name in session.default_names)
    assert len(session.default_names) == 4 * 18


def test_feeding_the_defaults_changes_no_bit(
    session: OnnxSession, defaults: Arrays, image: NDArray[np.float32]
) -> None:
    (plain,) = session.run({"input": image})
    (fed,) = session.run({"input": image, **defaults})
    assert np.array_equal(plain, fed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_feeding_a_variant_equals_a_graph_that_has_its_tensors(
    variant: str, session: OnnxSession, image: NDArray[np.float32]
) -> None:
    onnx = needed("onnx")
    parameters = read_parameters(ZOO / f"{variant}.npz")
    model = onnx.load(str(GRAPH))
    for tensor in model.graph.initializer:
        if tensor.name in parameters:
            tensor.CopyFrom(onnx.numpy_helper.from_array(parameters[tensor.name], tensor.name))
    (bound,) = session.run({"input": image, **parameters})
    (rewritten,) = ort.InferenceSession(model.SerializeToString()).run(None, {"input": image})
    (base,) = session.run({"input": image})
    np.testing.assert_allclose(bound, rewritten, rtol=0, atol=1e-6 * float(np.abs(rewritten).max()))
    assert not np.array_equal(bound, base)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_differs_only_in_normalisation_statistics(variant: str, defaults: Arrays) -> None:
    parameters = read_parameters(ZOO / f"{variant}.npz")
    assert set(parameters) == {name for name in defaults if name.endswith((".mean", ".var"))}
    for name, value in parameters.items():
        assert value.shape == defaults[name].shape, name
        assert value.dtype == np.float32
        assert np.isfinite(value).all(), name
        assert name.endswith(".mean") or (value >= 0).all(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_the_base_pipeline_but_for_its_tensors_and_what_it_is_called(variant: str) -> None:
    base, site = read("ct-lungs-net"), read(variant)
    network = network_of(site)
    assert network.variant == str(ZOO / f"{variant}.npz")
    steps = tuple(
        replace(step, operator=replace(network, variant="")) if step.operator is network else step
        for step in site.steps
    )
    assert replace(site, name=base.name, title=base.title, description=base.description, steps=steps) == base


def test_a_slice_comes_out_alike_alone_and_in_a_batch(session: OnnxSession) -> None:
    images = np.random.default_rng(1).random((3, 1, 48, 80), np.float32)
    (together,) = session.run({"input": images})
    alone = np.concatenate([session.run({"input": image[None]})[0] for image in images])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * float(np.abs(alone).max()))


def test_the_pipeline_feeds_the_network_what_it_was_trained_on() -> None:
    pipeline = read("ct-lungs-net")
    operators = [pipeline.step(name).operator for name in ("volume", "coarse", "grid")]
    assert tuple(operators) == grid.TO_GRID
    assert pipeline.step("clipped").operator == Clip(min_hu=grid.MIN_HU, max_hu=grid.MAX_HU)
    scaled = pipeline.step("scaled").operator
    assert scaled == Normalise(offset=grid.MIN_HU, scale=grid.SCALE)
    assert network_of(pipeline).multiple_of == 16


def test_the_way_to_the_means_is_shared_with_the_pipelines_by_density() -> None:
    net, density = read("ct-lungs-net"), read("ct-lungs")
    for name in ("images", "stacked", "volume", "coarse"):
        assert net.step(name) == density.step(name)


def test_phantoms_that_judge_are_not_those_that_taught() -> None:
    assert not set(HELD_OUT_SEEDS) & set(TRAINING_SEEDS)


def test_it_finds_the_lungs_of_a_phantom_it_never_saw() -> None:
    spec = replace(
        training_spec(HELD_OUT_SEEDS[0]), slices=14, spacing_mm=(18.0, 1.4, 1.4), rows=256, columns=256
    )
    stacked, truth = scanned_phantom(spec)
    left, right, _ = sides(lungs_of(read("ct-lungs-net"), stacked), truth)
    assert min(left, right) >= 0.95


def test_it_finds_no_lung_in_air_or_water() -> None:
    nothing, _ = scanned_phantom(
        PhantomSpec(seed=1, slices=3, rows=64, columns=64, spacing_mm=(5.0, 4.0, 4.0))
    )
    for hu in (-1000.0, 0.0):
        found = lungs_of(
            read("ct-lungs-net"), replace(nothing, voxels=np.full(nothing.shape, hu, np.float32))
        )
        assert not found.labels.any()


@pytest.fixture(scope="module")
def chest(shared_data: Path) -> Volume:
    with series_folder(shared_data, CHEST) as folder:
        if folder is None:
            absent(f"needs dicom/{CHEST}.zip in the real data")
        assert folder is not None
        return stacked_volume(read("ct-lungs-net"), folder)


def few_slices(volume: Volume, step: int) -> Volume:
    """Every `step`-th slice, as if the others had not been taken."""
    source = volume.source
    assert source is not None
    affine = volume.affine.copy()
    affine[:3, 0] *= step
    planes = SourcePlanes(
        image_index=source.image_index[::step],
        positions_mm=source.positions_mm[::step],
        image_orientation_patient=source.image_orientation_patient,
        pixel_spacing=source.pixel_spacing,
        rows=source.rows,
        columns=source.columns,
    )
    return replace(volume, voxels=volume.voxels[::step], affine=affine, source=planes)


def test_it_finds_the_lungs_of_a_real_chest_it_never_saw(chest: Volume) -> None:
    stacked = few_slices(chest, 8)
    found, reference = lungs_of(read("ct-lungs-net"), stacked), lungs_of(read("ct-lungs"), stacked)
    left, right, _ = sides(found, reference)
    assert min(left, right) >= 0.95


def test_it_agrees_with_another_network_on_the_real_chest(chest: Volume, shared_data: Path) -> None:
    needed("nibabel")
    expected = expected_mask(shared_data, chest).labels[::8] > 0
    assert dice(lungs_of(read("ct-lungs-net"), few_slices(chest, 8)).labels > 0, expected) >= 0.93


def test_specks_are_dropped_from_each_lung_by_itself() -> None:
    labels = np.zeros((1, 1, 8), np.uint8)
    labels[0, 0] = [1, 1, 1, 2, 2, 0, 1, 2]
    lungs = LabelMap(labels, np.diag([10.0, 10.0, 10.0, 1.0]), ("Left lung", "Right lung"))  # 1 mL a voxel
    kept = Components(min_volume_ml=2).apply([lungs], CONTEXT)
    assert isinstance(kept, LabelMap)
    assert kept.labels[0, 0].tolist() == [1, 1, 1, 2, 2, 0, 0, 0]


def test_onnx_bytes_depend_on_the_weights_alone(defaults: Arrays) -> None:
    needed("onnx")
    from models.training.export import NORM_TENSORS, write_onnx

    weights = weights_in(GRAPH)
    for name, value in defaults.items():
        norm, _, tensor = name.rpartition(".")
        weights[f"{norm}.{NORM_TENSORS[tensor]}"] = value
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again.onnx"
        write_onnx(weights, 5, again)
        assert again.read_bytes() == GRAPH.read_bytes()


def weights_in(graph: Path) -> dict[str, NDArray[np.float32]]:
    import onnx

    tensors = onnx.load(str(graph)).graph.initializer
    return {t.name: onnx.numpy_helper.to_array(t) for t in tensors if ".norm." not in t.name}
