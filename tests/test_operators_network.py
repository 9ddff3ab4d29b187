"""A network sees every voxel once, in whichever pieces, and its answer lies on the volume's grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import KernelError, PipelineError
from models.operators.argmax import Argmax
from models.operators.base import KernelContext, NetworkSession
from models.operators.network import Network
from models.operators.tiles import corners_of, gaussian, in_tiles
from models.values import HU, ONE, Kind, ProbabilityMap, ValueType
from tests.imaging_cases import applied, grid, volume

GRAPH = "sha256:" + "0" * 64 + ":1"
VARIANT = "sha256:" + "1" * 64 + ":1"


class Fake:
    """A network whose classes are multiples of its input; remembers what it was fed."""

    def __init__(self, factors: tuple[float, ...] = (1.0,)) -> None:
        self.factors = factors
        self.fed: list[tuple[int, ...]] = []
        self.others: set[str] = set()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        image = inputs["input"]
        self.fed.append(image.shape)
        self.others |= inputs.keys() - {"input"}
        assert image.dtype == np.float32
        return [np.concatenate([image * np.float32(factor) for factor in self.factors], axis=1)]

    def network(self, graph: str) -> NetworkSession:
        assert graph == GRAPH
        return self

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        assert digest == VARIANT
        return {"scale": np.ones(1, np.float32)}


def run(network: Network, fake: Fake, voxels: NDArray[np.float32]) -> ProbabilityMap:
    result = network.apply([volume(voxels, grid((2.0, 1.0, 1.0)), ONE)], KernelContext(resources=fake))
    assert isinstance(result, ProbabilityMap)
    np.testing.assert_array_equal(result.affine, grid((2.0, 1.0, 1.0)))
    return result


VOXELS = np.random.default_rng(3).normal(size=(5, 6, 7)).astype(np.float32)
MODES: list[dict[str, Any]] = [
    {"mode": "whole"},
    {"mode": "whole", "multiple_of": 4},
    {"mode": "slices", "batch": 2},
    {"mode": "slices", "batch": 3, "multiple_of": 8},
    {"mode": "sliding_window", "patch": (2, 4, 4), "batch": 3},
    {"mode": "sliding_window", "patch": (8, 8, 8), "overlap": 0.0},
    {"mode": "sliding_window", "patch": (3, 6, 2), "overlap": 0.75},
]


@pytest.mark.parametrize("settings", MODES)
@pytest.mark.parametrize("factors", [(1.0,), (0.5, -1.0)])
def test_a_pointwise_network_gives_the_same_in_every_mode(
    settings: dict[str, Any], factors: tuple[float, ...]
) -> None:
    result = run(Network(graph=GRAPH, segments=("Organ",), **settings), Fake(factors), VOXELS)
    expected = np.stack([VOXELS * np.float32(factor) for factor in factors])
    np.testing.assert_allclose(result.values, expected, atol=1e-6)


def test_what_is_fed_has_the_batch_and_the_multiple_asked_for() -> None:
    fake = Fake()
    run(Network(graph=GRAPH, segments=("Organ",), mode="slices", batch=2, multiple_of=4), fake, VOXELS)
    assert fake.fed == [(2, 1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 8)]
    fake = Fake()
    run(Network(graph=GRAPH, segments=("Organ",), multiple_of=4), fake, VOXELS)
    assert fake.fed == [(1, 1, 8, 8, 8)]


def test_a_variant_is_fed_beside_the_image_and_both_are_blobs() -> None:
    fake = Fake()
    network = Network(graph=GRAPH, variant=VARIANT, segments=("Organ",))
    run(network, fake, VOXELS)
    assert fake.others == {"scale"}
    assert network.blobs() == (GRAPH, VARIANT)
    assert Network(graph=GRAPH, segments=("Organ",)).blobs() == (GRAPH,)


def test_activations_make_probabilities() -> None:
    sigmoid = run(Network(graph=GRAPH, segments=("a",), activation="sigmoid"), Fake(), VOXELS)
    np.testing.assert_allclose(sigmoid.values[0], 1 / (1 + np.exp(-VOXELS)), rtol=1e-5)
    softmax = run(Network(graph=GRAPH, segments=("a", "b"), activation="softmax"), Fake((1, 2, 3)), VOXELS)
    np.testing.assert_allclose(softmax.values.sum(axis=0), 1, rtol=1e-5)


def test_classes_that_do_not_fit_the_segments_are_an_error() -> None:
    with pytest.raises(KernelError, match="3 classes"):
        run(Network(graph=GRAPH, segments=("a",)), Fake((1, 2, 3)), VOXELS)
    with pytest.raises(KernelError, match="no number 1"):
        run(Network(graph=GRAPH, segments=("a",), output=1), Fake(), VOXELS)


def test_a_network_trained_on_normalised_values_refuses_hounsfield_units() -> None:
    with pytest.raises(PipelineError, match="not in HU"):
        Network(graph=GRAPH, segments=("a",)).infer([ValueType(kind=Kind.VOLUME, unit=HU)])
    typed = Network(graph=GRAPH, segments=("a",), unit=HU).infer([ValueType(kind=Kind.VOLUME, unit=HU)])
    assert typed == ValueType(kind=Kind.PROBABILITY_MAP, segments=("a",))


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"segments": []}, "segments"),
        ({"batch": 0}, "batch"),
        ({"overlap": 1.0}, "overlap"),
        ({"patch": [4, 4, 4]}, "patch"),
        ({"mode": "sliding_window"}, ""),
        ({"mode": "slice"}, "mode"),
        ({"graph": ""}, "graph"),
    ],
)
def test_a_senseless_network_names_its_key(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError) as refused:
        Network.from_parameters({"graph": GRAPH, "segments": ["a"], **parameters})
    assert refused.value.key == key


def test_tiles_cover_everything_and_overlap_as_asked() -> None:
    corners = list(corners_of((5, 9, 4), (5, 4, 4), 0.5))
    assert [corner[1] for corner in corners] == [0, 2, 3, 5]
    assert corners[-1] == (0, 5, 0)


def test_where_tiles_meet_the_middle_of_a_tile_counts_more_than_its_border() -> None:
    answers = iter([0.0, 1.0])

    def constant(tiles: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.full_like(tiles, next(answers))]

    blended = in_tiles(
        np.zeros((1, 1, 12), np.float32), constant, patch=(1, 1, 8), overlap=0.5, batch=1, pad_value=0.0
    )[0][0, 0, 0]
    assert (blended[:4] == 0).all()
    assert (blended[8:] == 1).all()
    assert (np.diff(blended[3:9]) > 0).all()
    assert gaussian((1, 1, 8)).max() == 1.0


def test_argmax_takes_the_first_of_equals_and_thresholds_a_single_class() -> None:
    values = np.array([[0.5, 0.2, 0.2], [0.5, 0.4, 0.3], [0.0, 0.4, 0.5]], np.float32).reshape(3, 1, 1, 3)
    labels = applied(Argmax(), ProbabilityMap(values, grid(), ("a", "b")))
    assert labels.labels.tolist() == [[[0, 1, 2]]]
    one = applied(Argmax(threshold=0.4), ProbabilityMap(values[1:2], grid(), ("a",)))
    assert one.labels.tolist() == [[[1, 0, 0]]]
    assert one.segments == ("a",)
