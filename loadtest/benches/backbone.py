"""Several networks over one input: five decoders on one encoder, five heads on one backbone, five folds.

All through the store as a pipeline would: registered, taken apart, built, run over a volume slice by slice.
Time is CPU time of the one thread that computes, each side in turn.
"""

import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from loadtest.benches.figures import Bar, Figure, Findings, at_most, figure
from loadtest.benches.networks import fold_pipeline
from loadtest.benches.networks.unet import CLASSES, INPUT, Base
from loadtest.benches.rounds import in_turn
from loadtest.benches.say import Say
from models.engines.onnxruntime import OnnxSession
from models.operators.base import KernelContext, NetworkSession
from models.operators.network import Network, computed_together
from models.operators.network_ensemble import NetworkEnsemble
from models.values import ONE, Volume
from object_store.opening import Store, open_store
from planner.networks.cutting.parts import stored_parts
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.networks.running.load import NetworkLoader
from planner.networks.running.together import JointSession

NETWORKS = 5
DECODERS_BAR, HEADS_BAR = 1.05, 1.25
OUTPUTS_WITHIN = 1e-5
_FOLDS_BATCH = 2
"""Slices in one piece."""
Array = NDArray[np.float32]


def run(quick: bool, say: Say) -> Findings:
    """Measure all of them."""
    slices, rounds = (2, 3) if quick else (4, 5)
    voxels = np.random.default_rng(1).standard_normal((slices, 256, 256)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="bench-backbone-") as name:
        folder = Path(name)
        store = open_store(folder / "store")
        say("five decoders on one encoder")
        bases = [_variant(f"up{seed}", seed) for seed in range(NETWORKS)]
        decoders = _Case(store, folder, [base.model(0, folded=False) for base in bases])
        first = _decoders(decoders, _Apart([base.apart(0) for base in bases]), voxels, rounds)
        say("five 1x1 heads on one backbone")
        bases = [_variant("head", seed) for seed in range(NETWORKS)]
        heads = _Case(store, folder, [base.model(0, folded=False) for base in bases])
        second = _heads(heads, voxels, rounds)
        say("five folds of one network")
        folds = _Case(
            store, folder, [Base(seed=50 + seed).model(0, folded=False) for seed in range(NETWORKS)]
        )
        third = _folds(folds, voxels, rounds)
        say("five folds in a compiled pipeline")
        fourth = fold_pipeline.measured(folder)
    findings = (first, second, third, fourth)
    return Findings(
        figures={key: value for found in findings for key, value in found.figures.items()},
        bars=[bar for found in findings for bar in found.bars],
        notes=[
            f"{NETWORKS} U-Nets of {Base().parameters() / 1e6:.1f} million parameters, {slices} slices of "
            f"256x256, one thread, its CPU time, {rounds} rounds in turn.",
            *(note for found in findings for note in found.notes),
        ],
    )


def _variant(part: str, seed: int) -> Base:
    """The base network with a part of its own: `up...` (all of the decoder) or `head`."""
    base, own = Base(), Base(seed=100 + seed)
    words = ("up", "head") if part.startswith("up") else ("head",)
    base.filters.update({name: own.filters[name] for name in own.filters if name.startswith(words)})
    return base


class _Counted:
    """A session that counts its runs and the CPU time they take."""

    def __init__(self, session: NetworkSession) -> None:
        self._session = session
        self.runs, self.seconds = 0, 0.0

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[Array]:
        started = time.thread_time()
        outputs = self._session.run(inputs)
        self.runs, self.seconds = self.runs + 1, self.seconds + time.thread_time() - started
        return outputs


class _Case:
    """Networks in the store, and sessions of the files as they are beside them."""

    def __init__(self, store: Store, folder: Path, models: Sequence[onnx.ModelProto]) -> None:
        path = folder / "network.onnx"
        self.networks: list[str] = []
        for model in models:
            path.write_bytes(model.SerializeToString())
            self.networks.append(str(register(store, open_network(path)).network))
        self.plain = [_Counted(OnnxSession(model.SerializeToString())) for model in models]
        self.parts = stored_parts(store)(tuple(sorted(self.networks)), (1, 1, 256, 256))
        self._loader = NetworkLoader(store.objects)
        self.sessions: dict[str, _Counted] = {}

    def session(self, build: str) -> _Counted:
        if build not in self.sessions:
            self.sessions[build] = _Counted(self._loader.build(build))
        return self.sessions[build]

    def together(self) -> JointSession:
        assert self.parts is not None, "these networks have something in common"
        return JointSession(self.parts, self.session)


class _Apart:
    """Plain sessions of one encoder and of decoders that were exported apart, as someone would by hand."""

    def __init__(self, exported: Sequence[tuple[onnx.ModelProto, onnx.ModelProto]]) -> None:
        encoder, _ = exported[0]
        self._crossing = [output.name for output in encoder.graph.output]
        self._encoder = OnnxSession(encoder.SerializeToString())
        self._decoders = [OnnxSession(decoder.SerializeToString()) for _, decoder in exported]

    def run(self, voxels: Array) -> list[Array]:
        """float32[classes, slices, rows, columns] of each decoder."""
        slices: list[list[Array]] = []
        for image in voxels:
            crossing = dict(zip(self._crossing, self._encoder.run({INPUT: image[None, None]}), strict=True))
            slices.append([decoder.run(crossing)[0][0] for decoder in self._decoders])
        return [np.stack(maps, axis=1) for maps in zip(*slices, strict=True)]


@dataclass(frozen=True, slots=True)
class _Resources:
    """Networks by digest: files as they are, or all of a case at once."""

    by_digest: Mapping[str, NetworkSession]
    together: JointSession | None = None

    def network(self, graph: str) -> NetworkSession:
        return self.by_digest[graph]

    def networks(self, graphs: Sequence[str]) -> JointSession | None:
        return self.together

    def parameters(self, digest: str) -> Mapping[str, Array]:
        raise KeyError(digest)


def _operator(graph: str, feeds: str = "x0", batch: int = 1) -> Network:
    return Network(graph=graph, segments=("a",) * (CLASSES - 1), mode="slices", batch=batch, input=feeds)


def _computed(operators: Sequence[Network], voxels: Array, resources: _Resources) -> list[Array]:
    volume = Volume(voxels, np.eye(4), ONE)
    found = computed_together(operators, [volume], KernelContext(resources=resources))
    return [result.values for result in found]


def _timed(compute: Callable[[], object]) -> float:
    started = time.thread_time()
    compute()
    return time.thread_time() - started


def _joint_and_plain(
    case: _Case, voxels: Array
) -> tuple[Callable[[], list[Array]], Callable[[], list[Array]]]:
    joint = _Resources({}, case.together())
    plain = _Resources(dict(zip(case.networks, case.plain, strict=True)))
    ours = [_operator(graph) for graph in case.networks]
    theirs = [_operator(graph, INPUT) for graph in case.networks]
    return (
        lambda: _computed(ours, voxels, joint),
        lambda: [_computed([operator], voxels, plain)[0] for operator in theirs],
    )


def _difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def _decoders(case: _Case, apart: _Apart, voxels: Array, rounds: int) -> Findings:
    together, plainly = _joint_and_plain(case, voxels)
    reference = plainly()
    difference = _difference(together(), reference)
    apart_difference = _difference(apart.run(voxels), reference)
    assert case.parts is not None
    encoder = case.sessions[case.parts.runs[0].build]
    runs = encoder.runs
    together()
    encoder_runs = (encoder.runs - runs) / len(voxels)
    sides: dict[str, Callable[[int], float]] = {
        "together": lambda _: _timed(together),
        "apart": lambda _: _timed(lambda: apart.run(voxels)),
        "plainly": lambda _: _timed(plainly),
    }
    seconds = in_turn(sides, rounds)
    ratio = median(_ratios(seconds["together"], seconds["apart"]))
    return Findings(
        figures={
            "five decoders, one encoder": _seconds(
                seconds["together"], seconds["plainly"], note="baseline: five sessions"
            ),
            "five decoders, one encoder, against sessions of each exported apart": _seconds(
                seconds["together"], seconds["apart"], note="baseline: plain onnxruntime, the encoder once"
            ),
        },
        bars=[
            at_most("runs of the encoder per slice", encoder_runs, 1, "runs"),
            at_most("five decoders by (encoder + five decoders), exported apart", ratio, DECODERS_BAR, "x"),
            _within("five decoders", difference),
            _within("encoder and decoders exported apart", apart_difference),
        ],
        notes=[
            f"Five decoders: {len(case.parts.runs)} graphs, the first of them for all. The sum it is held "
            "against: plain onnxruntime sessions of the encoder and of each decoder, exported apart by hand."
        ],
    )


def _heads(case: _Case, voxels: Array, rounds: int) -> Findings:
    together, plainly = _joint_and_plain(case, voxels)
    difference = _difference(together(), plainly())
    single = _Resources({case.networks[0]: case.plain[0]})
    one = _operator(case.networks[0], INPUT)
    sides: dict[str, Callable[[int], float]] = {
        "together": lambda _: _timed(together),
        "one": lambda _: _timed(lambda: _computed([one], voxels, single)),
        "plainly": lambda _: _timed(plainly),
    }
    seconds = in_turn(sides, rounds)
    ratio = median(_ratios(seconds["together"], seconds["one"]))
    assert case.parts is not None
    return Findings(
        figures={
            "five heads, one backbone": _seconds(
                seconds["together"], seconds["plainly"], note="baseline: five sessions"
            ),
            "one of these networks": _seconds(seconds["one"]),
        },
        bars=[
            at_most("five heads by one network", ratio, HEADS_BAR, "x"),
            _within("five heads", difference),
        ],
        notes=[f"Five heads: {len(case.parts.runs)} graph(s) with five outputs."],
    )


def _folds(case: _Case, voxels: Array, rounds: int) -> Findings:
    resources = _Resources(dict(zip(case.networks, case.plain, strict=True)))
    first, *others = case.networks
    ensemble = NetworkEnsemble(
        **_operator(first, INPUT, _FOLDS_BATCH).parameters(),  # type: ignore[arg-type]
        others=tuple((graph, "") for graph in others),
    )
    operators = [_operator(graph, INPUT, _FOLDS_BATCH) for graph in case.networks]

    def one_walk() -> list[Array]:
        return _computed([ensemble], voxels, resources)

    def five_walks() -> list[Array]:
        maps = [_computed([operator], voxels, resources)[0] for operator in operators]
        return [np.asarray(sum(maps[1:], maps[0]) / np.float32(len(maps)))]

    difference = _difference(one_walk(), five_walks())
    seconds = in_turn({"one": lambda _: _timed(one_walk), "five": lambda _: _timed(five_walks)}, rounds)
    return Findings(
        figures={
            "five folds in one walk": _seconds(
                seconds["one"], seconds["five"], note="baseline: five walks, then the mean"
            ),
            "memory of five folds": figure(
                [_peak_mb(one_walk)],
                [_peak_mb(five_walks)],
                unit="MB",
                better="lower",
                note="of numpy's arrays",
            ),
        },
        bars=[_within("five folds", difference)],
        notes=["Five folds: one probability map is held instead of five."],
    )


def _seconds(ours: Sequence[float], theirs: Sequence[float] = (), note: str = "") -> Figure:
    return figure(ours, theirs, unit="s", better="lower", note=note)


def _within(name: str, difference: float) -> Bar:
    return Bar(
        name=f"{name}: outputs against plain onnxruntime on the files, of the largest magnitude",
        required=f"<= {OUTPUTS_WITHIN:g}",
        measured=f"{difference:.2g}",
        holds=difference <= OUTPUTS_WITHIN,
    )


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what drifts on the machine drifts for both."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _peak_mb(compute: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
