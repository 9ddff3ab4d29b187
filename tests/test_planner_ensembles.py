"""Folds and mirror images that a pipeline writes out become one step; networks together become one stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from models.operators.argmax import Argmax
from models.operators.base import KernelContext, NetworkSession, Operator
from models.operators.ensemble import Ensemble
from models.operators.flip import Flip
from models.operators.network import Network
from models.operators.network_ensemble import NetworkEnsemble
from models.pipeline import Output, SegmentCode
from models.values import ONE, Kind, ProbabilityMap, Value, ValueType, Volume
from planner.graph import Graph, GraphOutput, Source, Work, json_parameters, reachable
from planner.networks.joint import Joint, find_joint
from planner.plan import Node, Plan, PlannedOutput
from planner.rewrite import rewrite
from planner.rules.fold_ensemble import FOLD_ENSEMBLE
from planner.rules.mirror_as_batch import MIRROR_AS_BATCH
from planner.rules.rule import Rule
from planner.stages import cut_stages
from tests.networks import unet
from tests.planner_cases import bare_plan

GRAPHS = tuple(f"sha256:{digit * 64}:1" for digit in "0123")
MODELS = {
    mode: dict(zip(GRAPHS, [unet(n, (4, 8), classes=2, dims=dims) for n in range(4)], strict=True))
    for mode, dims in (("slices", 2), ("whole", 3))
}
SHAPE = (4, 6, 8)
SEGMENT = SegmentCode(name="a", category=("1", "SCT", "T"), type=("2", "SCT", "T"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Operator):
    """A noisy volume."""

    name: ClassVar[str] = "scan"

    def infer(self, inputs: Any) -> ValueType:
        return ValueType(kind=Kind.VOLUME, unit=ONE)

    def apply(self, inputs: Any, context: KernelContext) -> Value:
        voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        return Volume(voxels, np.diag([2.0, 1.0, 1.0, 1.0]), ONE)


class Sessions:
    def __init__(self, mode: str) -> None:
        self._sessions = {name: OnnxSession(m.SerializeToString()) for name, m in MODELS[mode].items()}

    def network(self, graph: str) -> NetworkSession:
        return self._sessions[graph]

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        raise KeyError(digest)


SCAN = Work(Scan(), (Source(),), "scan")
SESSIONS = {mode: Sessions(mode) for mode in MODELS}


def work(operator: Operator, *inputs: Work | Source) -> Work:
    return Work(operator, inputs, operator.name)


def network(graph: str = GRAPHS[0], **settings: Any) -> Network:
    return Network(graph=graph, **{"segments": ("a",), "activation": "softmax", **settings})


def folds(graphs: Sequence[str] = GRAPHS[:3], **settings: Any) -> Work:
    return work(Ensemble(), *(work(network(graph, **settings), SCAN) for graph in graphs))


def images(net: Network, axes: Sequence[Any]) -> list[Work]:
    """The network on every mirror image, turned back."""
    found = []
    for chosen in chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)):
        flip = Flip(axes=chosen) if chosen else None
        seen = work(net, work(flip, SCAN) if flip else SCAN)
        found.append(work(flip, seen) if flip else seen)
    return found


def graph_to(result: Work, *also: Work) -> Graph:
    """Outputs: what the rules must keep are probabilities here, looked at before any threshold."""
    outputs = []
    for number, wanted in enumerate((result, *also)):
        mask = work(Argmax(), wanted)
        output = Output(name=f"o{number}", description="", mask=mask.step, segments=(SEGMENT,))
        outputs.append(GraphOutput(output, mask, None))
    return Graph(tuple(reachable(o.mask for o in outputs)), tuple(outputs))


def maps(graph: Graph, mode: str) -> list[ProbabilityMap]:
    """What is fed to the outputs' argmax."""
    context = KernelContext(resources=SESSIONS[mode])
    values: dict[str, Value] = {}
    for node in graph.nodes:
        inputs = [values[value.id] for value in node.inputs if isinstance(value, Work)]
        values[node.id] = node.operator.apply(inputs, context)
    found = [values[output.mask.inputs[0].id] for output in graph.outputs]
    assert all(isinstance(value, ProbabilityMap) for value in found)
    return found  # type: ignore[return-value]


def operators_of(graph: Graph) -> list[str]:
    return [node.operator.name for node in graph.nodes]


WALKS: list[dict[str, Any]] = [
    {"mode": "slices", "batch": 3},
    {"mode": "slices", "batch": 1},
    {"mode": "whole"},
]
walks = st.sampled_from(WALKS)
axes_of = st.lists(st.sampled_from(["slices", "rows", "columns"]), max_size=3, unique=True)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, Graph]:
    """Ensembles of folds, of mirror images, of both, and of neither; some maps read by others as well."""
    walk = draw(walks)
    members: list[Work] = []
    for graph in draw(st.lists(st.sampled_from(GRAPHS[:3]), min_size=1, max_size=3)):
        activation = draw(st.sampled_from(["softmax", "softmax", "sigmoid"]))
        of_one = images(network(graph, **walk, activation=activation), draw(axes_of))
        members.append(of_one[0] if len(of_one) == 1 else work(Ensemble(), *draw(st.permutations(of_one))))
    result = members[0] if len(members) == 1 else work(Ensemble(), *members)
    also = [members[-1]] if draw(st.booleans()) else []
    return walk["mode"], graph_to(result, *also)


@settings(max_examples=40, deadline=None)
@given(case=graphs(), rule=st.sampled_from([MIRROR_AS_BATCH, FOLD_ENSEMBLE, None]))
def test_probabilities_stay_within_the_tolerance(case: tuple[str, Graph], rule: Rule | None) -> None:
    mode, graph = case
    rules = (MIRROR_AS_BATCH, FOLD_ENSEMBLE) if rule is None else (rule,)
    rewritten = rewrite(graph, rules)
    tolerance = sum(each.tolerance for each in rules)
    assert tolerance <= 2e-6
    for before, after in zip(maps(graph, mode), maps(rewritten, mode), strict=True):
        np.testing.assert_allclose(after.values, before.values, rtol=0, atol=tolerance)
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-9)
        assert after.segments == before.segments
    assert rewrite(rewritten, rules) == rewritten
    assert rewrite(rewritten) == rewrite(graph)


def test_folds_become_one_step() -> None:
    rewritten = rewrite(graph_to(folds(mode="slices")))
    assert operators_of(rewritten) == ["scan", "network_ensemble", "argmax"]
    (ensemble,) = [n.operator for n in rewritten.nodes if isinstance(n.operator, NetworkEnsemble)]
    assert ensemble.members() == tuple((graph, "") for graph in GRAPHS[:3])
    assert ensemble.mode == "slices"


@pytest.mark.parametrize(
    "ensemble",
    [
        work(Ensemble(), work(network(), SCAN), work(network(GRAPHS[1], batch=2), SCAN)),
        work(Ensemble(), work(network(), SCAN), work(network(GRAPHS[1]), work(Flip(axes=("rows",)), SCAN))),
        work(Ensemble(), work(network("fold0.onnx"), SCAN), work(network("fold1.onnx"), SCAN)),
        work(Ensemble(), work(network(), SCAN), work(network(), SCAN)),
    ],
    ids=["other batch", "other input", "not in the store", "one twice"],
)
def test_what_is_no_set_of_folds_stays(ensemble: Work) -> None:
    assert "ensemble" in operators_of(rewrite(graph_to(ensemble)))


def test_a_fold_whose_map_others_read_stays() -> None:
    ensemble = folds()
    assert isinstance(ensemble.inputs[0], Work)
    assert "ensemble" in operators_of(rewrite(graph_to(ensemble, ensemble.inputs[0])))


def test_folds_written_with_their_mirror_images_become_one_step() -> None:
    axes = ("rows", "columns")
    each = [work(Ensemble(), *images(network(graph, mode="slices"), axes)) for graph in GRAPHS[:2]]
    rewritten = rewrite(graph_to(work(Ensemble(), *each)))
    assert operators_of(rewritten) == ["scan", "network_ensemble", "argmax"]
    (ensemble,) = [n.operator for n in rewritten.nodes if isinstance(n.operator, NetworkEnsemble)]
    assert ensemble.mirror == axes


@pytest.mark.parametrize(
    ("settings", "axes", "left_out"),
    [
        ({"mode": "slices"}, ("slices",), 0),
        ({"mode": "whole", "multiple_of": 4}, ("rows",), 0),
        ({"mode": "sliding_window", "patch": (4, 4, 4)}, ("rows",), 0),
        ({"mode": "whole"}, ("rows", "columns"), 1),
    ],
    ids=[
        "slices have no third axis",
        "padding is not mirrored",
        "tiles are not mirrored",
        "an image is missing",
    ],
)
def test_mirror_images_that_would_not_be_the_same_stay(
    settings: dict[str, Any], axes: tuple[str, ...], left_out: int
) -> None:
    ensemble = work(Ensemble(), *images(network(**settings), axes)[left_out:])
    assert "ensemble" in operators_of(rewrite(graph_to(ensemble), (MIRROR_AS_BATCH,)))


# -- stages ------------------------------------------------------------------------------------------------


def plan_of(graph: Graph) -> Plan:
    nodes = tuple(
        Node(
            id=node.id,
            step=node.step,
            operator=node.operator.name,
            version=node.operator.version,
            parameters=json_parameters(node.operator),
            inputs=tuple(value.id for value in node.inputs),
        )
        for node in graph.nodes
    )
    outputs = tuple(
        PlannedOutput(
            name=o.output.name,
            description="",
            mask=o.mask.id,
            segmentation=o.mask.id,
            measurements=None,
            segments=(),
        )
        for o in graph.outputs
    )
    return bare_plan(*nodes, outputs=outputs)


def stages(graph: Graph, *also: Graph, joint: Sequence[Joint] | None = None) -> list[str]:
    plans = {f"plan {n}": plan_of(each) for n, each in enumerate((graph, *also))}
    works = {node.id: node.operator for each in (graph, *also) for node in each.nodes}
    found = cut_stages(plans, lambda node: works[node.id], find_joint(plans) if joint is None else joint)
    done = {"source"}
    for stage in found:
        assert done.issuperset(stage.takes)
        done.update(stage.gives)
    return [stage.name for stage in found]


def test_networks_that_are_computed_together_are_one_stage_with_what_follows_each() -> None:
    nets = [work(network(graph, mode="slices"), SCAN) for graph in GRAPHS[:3]]
    graph = graph_to(*nets)
    assert stages(graph) == ["scan+network+network+network+argmax+argmax+argmax"]
    assert stages(graph, joint=()) == ["scan", *["network+argmax"] * 3]


def test_a_map_that_several_read_leaves_the_stage() -> None:
    nets = [work(network(graph, mode="slices"), SCAN) for graph in GRAPHS[:2]]
    mean = work(Ensemble(), *nets)
    assert stages(graph_to(nets[0], nets[1], mean)) == [
        "scan+network+network",
        "argmax",
        "argmax",
        "ensemble+argmax",
    ]


def test_only_nodes_of_the_same_plans_are_computed_together() -> None:
    first, second = (graph_to(work(network(graph), SCAN)) for graph in GRAPHS[:2])
    assert sorted(stages(first, second)) == ["network+argmax", "network+argmax", "scan"]
