"""Networks over one volume in one walk give what each gives alone; mirroring is the mean of mirror images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from models.errors import KernelError, PipelineError
from models.operators import mirroring
from models.operators.base import KernelContext, NetworkSession, Operator
from models.operators.ensemble import Ensemble
from models.operators.flip import Flip
from models.operators.network import Network, computed_together
from models.operators.network_ensemble import NetworkEnsemble
from models.values import ONE, Kind, ProbabilityMap, ValueType, Volume
from planner.execute import run_stage
from planner.networks.joint import Joint
from planner.plan import Node
from tests.imaging_cases import applied, grid, volume
from tests.networks import unet

GRAPHS = tuple(f"sha256:{digit * 64}:1" for digit in "0123")
MODELS = {
    2: dict(zip(GRAPHS, [unet(n, (4, 8), classes=2) for n in range(4)], strict=True)),
    3: dict(zip(GRAPHS, [unet(n, (4, 8), classes=2, dims=3) for n in range(4)], strict=True)),
}
VOXELS = np.random.default_rng(3).normal(size=(6, 18, 14)).astype(np.float32)


class Sessions:
    """Real sessions, and what was asked of them."""

    def __init__(self, dims: int, joint: Sequence[Joint] = ()) -> None:
        self._sessions = {name: OnnxSession(m.SerializeToString()) for name, m in MODELS[dims].items()}
        self.joint = tuple(joint)
        self.fed: list[tuple[str, tuple[int, ...]]] = []

    def network(self, graph: str) -> NetworkSession:
        return _Fed(graph, self._sessions[graph], self.fed)

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        raise KeyError(digest)


class Sharing(Sessions):
    """Resources that have a session for several networks at once."""

    def __init__(self, dims: int, joint: Sequence[Joint] = ()) -> None:
        super().__init__(dims, joint)
        self.fused = ()
        self.asked: list[tuple[str, ...]] = []

    def networks(self, graphs: Sequence[str]) -> "Sharing":
        self.asked.append(tuple(graphs))
        return self

    def run(
        self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]
    ) -> Iterator[list[NDArray[np.float32]]]:
        for graph in wanted:
            yield self._sessions[graph].run(inputs)


class _Fed:
    def __init__(self, graph: str, session: OnnxSession, fed: list[tuple[str, tuple[int, ...]]]) -> None:
        self._graph, self._session, self._fed = graph, session, fed

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        self._fed.append((self._graph, inputs["input"].shape))
        return self._session.run(inputs)


def network(graph: str = GRAPHS[0], **settings: Any) -> Network:
    return Network(graph=graph, **{"segments": ("a",), "activation": "softmax", **settings})


def run(operator: Operator, resources: Sessions, voxels: NDArray[np.float32] = VOXELS) -> ProbabilityMap:
    result = operator.apply([volume(voxels, grid(), ONE)], KernelContext(resources=resources))
    assert isinstance(result, ProbabilityMap)
    return result


WALKS: list[dict[str, Any]] = [
    {"mode": "whole", "multiple_of": 2},
    {"mode": "slices", "batch": 4, "multiple_of": 2},
    {"mode": "sliding_window", "patch": (4, 8, 8), "batch": 3},
    {"mode": "sliding_window", "patch": (8, 8, 8), "mirror": ("slices", "columns")},
]


def dims_of(walk: Mapping[str, Any]) -> int:
    return 2 if walk["mode"] == "slices" else 3


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("resources", [Sessions, Sharing])
def test_together_is_one_by_one_bit_for_bit(walk: dict[str, Any], resources: type[Sessions]) -> None:
    operators = [
        network(GRAPHS[0], **walk),
        network(GRAPHS[1], **walk, segments=("b",), activation="none"),
        network(GRAPHS[0], **walk, activation="sigmoid"),
    ]
    given = [volume(VOXELS, grid(), ONE)]
    used = resources(dims_of(walk))
    results = computed_together(operators, given, KernelContext(resources=used))
    for operator, result in zip(operators, results, strict=True):
        alone = run(operator, Sessions(dims_of(walk)))
        assert result.values.tobytes() == alone.values.tobytes()
        assert result.segments == operator.segments
    if isinstance(used, Sharing):
        assert used.asked == [GRAPHS[:2]]
        assert used.fed == []


def test_one_network_with_two_heads_runs_once_for_both_steps() -> None:
    sessions = Sessions(2)
    operators = [network(mode="slices", batch=6, activation=a, multiple_of=2) for a in ("softmax", "none")]
    computed_together(operators, [volume(VOXELS, grid(), ONE)], KernelContext(resources=sessions))
    assert sessions.fed == [(GRAPHS[0], (6, 1, 18, 14))]


@pytest.mark.parametrize("walk", WALKS)
def test_an_ensemble_of_folds_is_the_mean_of_its_networks(walk: dict[str, Any]) -> None:
    sessions = Sessions(dims_of(walk))
    folds = NetworkEnsemble(
        graph=GRAPHS[0],
        others=tuple((graph, "") for graph in GRAPHS[1:]),
        segments=("a",),
        activation="softmax",
        **walk,
    )
    maps = [run(network(graph, **walk), sessions) for graph in GRAPHS]
    written_out = applied(Ensemble(), *maps)
    np.testing.assert_allclose(run(folds, sessions).values, written_out.values, atol=1e-6)
    np.testing.assert_allclose(written_out.values, np.mean([m.values for m in maps], axis=0), atol=1e-6)
    assert folds.blobs() == GRAPHS


@pytest.mark.parametrize("named", [(0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0, 0)])
def test_a_network_that_an_ensemble_names_twice_counts_twice_and_runs_once(named: tuple[int, ...]) -> None:
    first, *others = (GRAPHS[place] for place in named)
    folds = NetworkEnsemble(
        graph=first,
        others=tuple((graph, "") for graph in others),
        segments=("a",),
        mode="slices",
        batch=6,
        activation="softmax",
    )
    sessions = Sessions(2)
    ours = run(folds, sessions).values
    assert len(sessions.fed) == len(set(named))
    maps = [
        run(network(GRAPHS[place], mode="slices", batch=6, activation="softmax"), Sessions(2))
        for place in named
    ]
    np.testing.assert_allclose(ours, np.mean([m.values for m in maps], axis=0), atol=1e-6)


def test_an_ensemble_of_folds_makes_every_tile_once_and_holds_one_map() -> None:
    asked: list[int] = []

    class Counted(Sessions):
        def network(self, graph: str) -> NetworkSession:
            asked.append(len(self.fed))
            return super().network(graph)

    sessions = Counted(3)
    folds = NetworkEnsemble(
        graph=GRAPHS[0],
        others=((GRAPHS[1], ""),),
        segments=("a",),
        mode="sliding_window",
        patch=(6, 8, 8),
        batch=9,
    )
    run(folds, sessions)
    assert [graph for graph, _ in sessions.fed] == list(GRAPHS[:2]) * (len(sessions.fed) // 2)
    assert asked == list(range(len(sessions.fed)))  # each runs only when the one before is done


def test_ensembles_refuse_what_does_not_fit() -> None:
    a, b = (ValueType(kind=Kind.PROBABILITY_MAP, segments=(name,)) for name in "ab")
    with pytest.raises(PipelineError, match="2 or more"):
        Ensemble().infer([a])
    with pytest.raises(PipelineError, match="different segments"):
        Ensemble().infer([a, b])
    maps = [ProbabilityMap(np.ones((2, 1, 1, n), np.float32), grid(), ("a",)) for n in (2, 3)]
    with pytest.raises(KernelError, match="different classes or grids"):
        applied(Ensemble(), *maps)
    with pytest.raises(PipelineError, match="write network and ensemble"):
        NetworkEnsemble.from_parameters(
            {"graph": "fold0.onnx", "others": [["f1.onnx", ""]], "segments": ["a"]}
        )


# -- mirroring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [("rows",), ("columns", "rows"), ("slices", "rows", "columns")])
@pytest.mark.parametrize("at_once", [0, 10**9])
def test_mirroring_is_the_mean_over_all_mirror_images(
    axes: tuple[str, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "AT_ONCE_VOXELS", at_once)
    voxels, sessions = VOXELS, Sessions(3)
    result = run(network(mirror=axes), sessions).values
    images = []
    for chosen in chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)):
        turned = tuple(("slices", "rows", "columns").index(axis) for axis in chosen)
        alone = run(network(), Sessions(3), np.ascontiguousarray(np.flip(voxels, turned))).values
        images.append(np.flip(alone, tuple(axis + 1 for axis in turned)))
    np.testing.assert_allclose(result, np.mean(images, axis=0), atol=1e-6)
    assert sessions.fed == (
        [(GRAPHS[0], (len(images), 1, *voxels.shape))]
        if at_once
        else [(GRAPHS[0], (1, 1, *voxels.shape))] * len(images)
    )


@pytest.mark.parametrize("walk", WALKS[:3])
def test_mirroring_at_once_and_one_by_one_are_equal(
    walk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for at_once in (0, 10**9):
        monkeypatch.setattr(mirroring, "AT_ONCE_VOXELS", at_once)
        operator = network(**walk, mirror=("rows", "columns"), activation="none")
        results.append(run(operator, Sessions(dims_of(walk))).values)
    difference = np.abs(results[0] - results[1]).max()
    assert difference <= 1e-6 * np.abs(results[0]).max()


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"mirror": ["depth"]}, "mirror.0"),
        ({"mirror": ["rows", "rows"]}, "mirror"),
        ({"mirror": ["slices"], "mode": "slices"}, "mirror"),
    ],
)
def test_senseless_mirroring_names_its_key(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError) as refused:
        Network.from_parameters({"graph": GRAPHS[0], "segments": ["a"], **parameters})
    assert refused.value.key == key


@pytest.mark.parametrize("axes", [("rows",), ("slices", "columns")])
def test_a_flip_leaves_every_voxel_where_it_is_and_undoes_itself(axes: Any) -> None:
    given = volume(VOXELS, grid((2.0, 1.0, 0.5)))
    flipped: Volume = applied(Flip(axes=axes), given)
    index = np.array([1, 4, 5, 1.0])
    mirrored = index.copy()
    for axis in axes:
        place = ("slices", "rows", "columns").index(axis)
        mirrored[place] = VOXELS.shape[place] - 1 - index[place]
    assert flipped.voxels[tuple(mirrored[:3].astype(int))] == VOXELS[1, 4, 5]
    np.testing.assert_allclose(flipped.affine @ mirrored, given.affine @ index)
    again: Volume = applied(Flip(axes=axes), flipped)
    np.testing.assert_array_equal(again.voxels, VOXELS)
    np.testing.assert_allclose(again.affine, given.affine, atol=1e-9)
    with pytest.raises(PipelineError):
        Flip(axes=axes).infer([ValueType(kind=Kind.LABEL_MAP)])


# -- in a stage --------------------------------------------------------------------------------------------


def test_a_stage_computes_joint_nodes_by_one_call_and_gives_the_same() -> None:
    walk: dict[str, Any] = {"mode": "slices", "batch": 6, "multiple_of": 2}
    operators: dict[str, Operator] = {"one": network(GRAPHS[0], **walk), "two": network(GRAPHS[1], **walk)}
    operators["mean"] = Ensemble()
    sources = {"one": ("volume",), "two": ("volume",), "mean": ("one", "two")}
    nodes = [
        Node(id=name, step=name, operator=o.name, version=1, parameters={}, inputs=sources[name])
        for name, o in operators.items()
    ]
    joint = Joint(nodes=("one", "two"), networks=GRAPHS[:2])
    given = {"volume": (volume(VOXELS, grid(), ONE),)}

    def computed(resources: Any) -> dict[str, Any]:
        context = KernelContext(resources=resources)
        return run_stage(nodes, given, ("two", "mean"), context, lambda node: operators[node.id])

    alone, sharing, other = computed(Sessions(2)), Sharing(2, [joint]), Sharing(2, [])
    for resources in (sharing, other):
        for name, value in computed(resources).items():
            assert value.values.tobytes() == alone[name].values.tobytes()
    assert sharing.asked == [GRAPHS[:2]]
    assert other.asked == []
    part = Sharing(2, [joint])
    context = KernelContext(resources=part)
    run_stage(nodes[:1], given, ("one",), context, lambda node: operators[node.id])
    assert part.asked == []  # a joint of which only some nodes are wanted is left alone
