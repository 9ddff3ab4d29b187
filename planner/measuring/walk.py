"""Walks stages over phantoms, and has each measured."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from models.phantom import PhantomSpec, phantom_series
from models.values import Series
from planner.binding import IMAGES_PER_PART, Binding, Stage
from planner.execute import OperatorFrom, operator_of
from planner.measuring.fit import Sample
from planner.measuring.processes import Processes, measuring_processes
from planner.measuring.work import Failed, Measured, Work
from planner.networks.apart_child import Bounds
from planner.networks.joint import networks_of
from planner.plan import SOURCE, Node
from planner.shared_values import SharedValue

log = logging.getLogger(__name__)

_SPACE_BYTES = 2 << 30
"""Free space that memory-backed folders must have to be used: what stages of the largest phantom leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thoroughness:
    """How often a stage is run, at most, and after how many seconds of it that is enough."""

    repeats: int
    enough_s: float
    tile_repeats: int
    """How often networks are also timed by tiles."""
    all_cores: bool
    """Whether stages with networks are also timed with all cores."""
    bounds: Bounds
    """Of measuring one stage on one phantom."""

    @property
    def without_networks(self) -> "Thoroughness":
        """The same, for one more phantom: what is told of networks does not turn on it."""
        return replace(self, tile_repeats=0, all_cores=False)


@contextmanager
def processes_for(
    binding: Binding, nodes: Mapping[str, Node], operators: OperatorFrom = operator_of
) -> Iterator[Processes]:
    """Processes that have imported what the kernels of a binding need."""
    imports = {module for node in _nodes_of(binding.stages, nodes) for module in operators(node).imports}
    with measuring_processes({*imports, operators.__module__}) as processes:
        yield processes


def samples_on(
    spec: PhantomSpec,
    binding: Binding,
    nodes: Mapping[str, Node],
    wanted: set[str],
    *,
    store: Path,
    processes: Processes,
    thoroughness: Thoroughness,
    operators: OperatorFrom = operator_of,
    measured: Callable[[str], None] = lambda name: None,
    stopped: set[str] | None = None,
) -> dict[str, Sample]:
    """Samples of the stages whose ids are `wanted`, by id, on one phantom.

    Stages that the wanted ones need are computed too; networks run as the binding says. A stage that fails
    on the phantom, and all after it, are missing in the answer. measured: called with the name of each.
    stopped: ids of stages that had to be stopped on other phantoms, and are not tried again; those that have
    to be here are added, and a warning says which step it was and why.
    """
    stopped = set() if stopped is None else stopped
    stages = binding.stages
    how = binding.to_bytes() if binding.networks or binding.joint or binding.fused else b""
    fused = {node for chain in binding.fused for node in chain.nodes}
    found: dict[str, Sample] = {}
    with _folder() as folder, tempfile.TemporaryDirectory(prefix="lightbox-phantom-") as images:
        series = phantom_series(spec, Path(images))
        voxels = spec.slices * spec.rows * spec.columns
        litres = voxels * spec.spacing_mm[0] * spec.spacing_mm[1] * spec.spacing_mm[2] * 1e-6
        values: dict[str, tuple[SharedValue, ...]] = {}
        needed = _with_ancestors(stages, wanted)
        for place, stage in enumerate(needed):
            given = all(node in values or node == SOURCE for node in stage.takes)
            if given and stage.id not in stopped:
                work = Work(
                    store=store,
                    binding=how,
                    nodes=tuple(nodes[node] for node in stage.nodes),
                    operators=operators,
                    inputs={node: values[node] for node in stage.takes if node != SOURCE},
                    parts=_parts(stage, series),
                    series=series,
                    gives=stage.gives,
                    folder=folder,
                    repeats=thoroughness.repeats if stage.id in wanted else 0,
                    enough_s=thoroughness.enough_s,
                    tile_repeats=thoroughness.tile_repeats,
                    all_cores=thoroughness.all_cores,
                    bounds=thoroughness.bounds.here(),
                )
                runs_graphs = any(networks_of(node) or node.id in fused for node in work.nodes)
                answer = processes.answer(work, alone=runs_graphs)
                if isinstance(answer, Failed) and answer.stopped:
                    stopped.add(stage.id)
                    log.warning("%s", _said(stage, binding, answer))
                values.update(answer.results)
                if isinstance(answer, Measured) and stage.id in wanted:
                    found[stage.id] = Sample(
                        voxels=voxels,
                        litres=litres,
                        seconds=answer.seconds,
                        peak_bytes=answer.peak_bytes,
                        output_bytes=answer.output_bytes,
                        all_cores=answer.all_cores,
                        tiles=answer.tiles,
                    )
            if stage.id in wanted:
                measured(stage.name)
            _forget(values, needed[place + 1 :])
    return found


def _said(stage: Stage, binding: Binding, failed: Failed) -> str:
    """Which step of which pipelines was not measured, and what becomes of that."""
    pipelines = ", ".join(sorted({binding.plans[plan] for plan in stage.plans if plan in binding.plans}))
    return (
        f"{pipelines}: step {failed.step or stage.name} was stopped while its cost was measured on a "
        f"phantom: {failed.stopped}; the cost stays a guess until `lightbox calibrate` can tell"
    )


def _parts(stage: Stage, series: Series) -> tuple[Series, ...]:
    if SOURCE not in stage.takes:
        return ()
    if stage.granularity != "image":
        return (series,)
    starts = range(0, len(series.images), IMAGES_PER_PART)
    return tuple(Series(series.images[at : at + IMAGES_PER_PART], offset=at) for at in starts)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory, or on disk where there is too little of it."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it, mode 0700
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _SPACE_BYTES
    with tempfile.TemporaryDirectory(prefix="lightbox-cost-", dir=memory if roomy else None) as folder:
        yield Path(folder)


def _nodes_of(stages: Sequence[Stage], nodes: Mapping[str, Node]) -> list[Node]:
    return [nodes[node] for stage in stages for node in stage.nodes if node in nodes]


def _with_ancestors(stages: Sequence[Stage], wanted: set[str]) -> list[Stage]:
    """The wanted stages and all that must run before them, in execution order."""
    needed: list[Stage] = []
    taken: set[str] = set()
    for stage in reversed(stages):
        if stage.id in wanted or not taken.isdisjoint(stage.gives):
            needed.append(stage)
            taken.update(stage.takes)
    return needed[::-1]


def _forget(values: dict[str, tuple[SharedValue, ...]], later: Sequence[Stage]) -> None:
    read = {node for stage in later for node in stage.takes}
    for node in [node for node in values if node not in read]:
        for shared in values.pop(node):
            os.unlink(shared.path)
