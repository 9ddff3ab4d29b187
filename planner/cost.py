"""What stages cost on this machine: those remembered in the store, else measured on phantoms and fitted.

Time is CPU time of one thread that runs (others may use the machine), the median of a few runs, from mapping
the inputs to the results in shared memory; memory is the peak of one run beyond its inputs.

A stage that does not keep within bounds on a phantom (a stranger's network may never end, or ask for more
memory than there is) is stopped. It keeps the default cost, a warning names the step and the reason, and the
pipeline is compiled all the same: a phantom is not the input that the network was made for, and this machine,
or what else runs on it, may be to blame. Whether a pipeline is fit to be served is for its golden cases to
say, which refuse it by name (planner.check). It is not tried anew on later phantoms, or when compiled again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.phantom import PhantomSpec
from object_store.errors import ObjectMissing
from object_store.opening import Store
from planner.binding import Binding, Costing, CostModel, Stage
from planner.canonical import canonical_json, identity
from planner.execute import OperatorFrom, operator_of
from planner.machine import machine_facts, machine_id
from planner.measuring.fit import Sample, fitted
from planner.measuring.walk import Thoroughness, processes_for, samples_on
from planner.names import costs_name
from planner.networks.apart_child import Bounds
from planner.networks.joint import networks_of
from planner.plan import SOURCE, Node, Plan

FORMAT = "lightbox.costs/2"
"""Raised whenever costs measured before mean something else than those measured now."""

PHANTOMS = tuple(
    PhantomSpec(seed=1, slices=slices, rows=512, columns=512, spacing_mm=(slice_mm, pixel_mm, pixel_mm))
    for slices, slice_mm, pixel_mm in ((12, 2.5, 0.8), (48, 2.5, 0.8), (32, 1.3, 0.65), (32, 0.8, 0.8))
)
"""As CT images nearly always are. Few and many slices tell what is fixed from what grows; thick and thin ones
what grows with voxels from what grows with the patient, and those of 1.3 mm are where shrinking by whole
factors (to 2.5 mm at most) leaves the most; there the patient also fills the image, and masks are largest.
48 images are two parts of a series. 32 are 34 MB as float32: more than caches hold, and the C library asks
the kernel for every array anew."""

QUICK_BOUNDS = Bounds(seconds=300.0, bytes=32 << 30)
"""Of one stage on one phantom while compiling. Guesses: the slowest of ours takes 5 s, and five folds of a
large 3D network on one thread take minutes. There are never more bytes than the machine lends."""
THOROUGH_BOUNDS = Bounds(seconds=1800.0, bytes=32 << 30)
"""Likewise for `lightbox calibrate`, which runs each stage some ten times as often."""

THOROUGH = Thoroughness(repeats=7, enough_s=4.0, tile_repeats=7, all_cores=True, bounds=THOROUGH_BOUNDS)
QUICK = Thoroughness(repeats=3, enough_s=0.02, tile_repeats=1, all_cores=False, bounds=QUICK_BOUNDS)
"""While compiling: whoever waits for that has asked for something else."""

Progress = Callable[[str], None]
"""Called with a stage's name when it has been measured on one phantom more."""


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What lies under planner.names.costs_name: costs by cost key, of one machine model."""

    format: str = FORMAT
    machine: dict[str, Any]
    costs: dict[str, CostModel]


def measured_costs(
    store: Store,
    operators: OperatorFrom = operator_of,
    measured: Progress = lambda name: None,
    phantoms: Sequence[PhantomSpec] = PHANTOMS,
    thoroughness: Thoroughness = QUICK,
) -> Costing:
    """Gives stages their costs: those remembered for this machine model, else measured now.

    Of stages with equal cost keys one is measured for all.
    """

    def costed(plans: Mapping[str, Plan], binding: Binding) -> tuple[Stage, ...]:
        known = remembered_costs(store)
        nodes = {node.id: node for plan in plans.values() for node in plan.nodes}
        keys = cost_keys(binding, nodes)
        if new := {key: stage for stage, key in keys.items() if key not in known}:
            found = measure(
                store.objects.root,
                binding,
                nodes,
                set(new.values()),
                operators,
                measured,
                phantoms=phantoms,
                thoroughness=thoroughness,
            )
            known |= {key: found[stage] for key, stage in new.items()}
            remember(store, known)
        return tuple(msgspec.structs.replace(stage, cost=known[keys[stage.id]]) for stage in binding.stages)

    return costed


def cost_keys(binding: Binding, nodes: Mapping[str, Node]) -> dict[str, str]:
    """By stage id: what its cost is remembered under.

    Stages with equal keys do the same work on equal input, but for the numbers of networks: every member of
    a family costs what the first one did, as long as they run on the same builds.
    """
    work: dict[str, str] = {SOURCE: SOURCE}

    def key_of(node_id: str) -> str:
        if node_id not in work:
            node = nodes[node_id]
            parameters = dict(node.parameters)
            if networks := networks_of(node):
                parameters = {**parameters, "graph": "", "others": len(networks)}
            ways = [_way(binding, network) for network in networks]
            inputs = [key_of(source) for source in node.inputs]
            work[node_id] = identity([node.operator, node.version, parameters, ways, inputs])
        return work[node_id]

    keys = {}
    for stage in binding.stages:
        together = [joint for joint in binding.joint if set(joint.nodes) & set(stage.nodes)]
        fused = [chain.graph for chain in binding.fused if set(chain.nodes) & set(stage.nodes)]
        keys[stage.id] = identity(
            [
                [key_of(node) for node in stage.nodes],
                [key_of(node) for node in stage.gives],
                msgspec.to_builtins(together),
                fused,
            ]
        )
    return keys


def _way(binding: Binding, network: str) -> list[str]:
    """How a network runs: on which builds; one that is not bound runs as itself."""
    bound = binding.networks.get(network)
    return [network] if bound is None else [choice.build for choice in bound.choices]


def remembered_costs(store: Store) -> dict[str, CostModel]:
    """Costs measured before on this machine model, by cost key. Those of another method are forgotten."""
    digest = store.names.get(costs_name(machine_id()))
    if digest is None:
        return {}
    try:
        remembered = msgspec.json.decode(store.objects.get(digest), type=_Remembered)
    except (msgspec.DecodeError, ObjectMissing):
        return {}
    return remembered.costs if remembered.format == FORMAT else {}


def remember(store: Store, costs: Mapping[str, CostModel]) -> None:
    """Keep these costs, in place of all kept before, for this machine model."""
    kept = _Remembered(machine=machine_facts(), costs=dict(costs))
    digest = store.objects.put(canonical_json(msgspec.to_builtins(kept)))
    store.names.set(costs_name(machine_id()), digest)


def measure(
    store: Path,
    binding: Binding,
    nodes: Mapping[str, Node],
    wanted: set[str],
    operators: OperatorFrom = operator_of,
    measured: Progress = lambda name: None,
    *,
    phantoms: Sequence[PhantomSpec] = PHANTOMS,
    thoroughness: Thoroughness = QUICK,
) -> dict[str, CostModel]:
    """Costs of the stages whose ids are `wanted`; one that fails on the phantoms, or had to be stopped,
    keeps the default cost.

    Networks run as the binding says. operators: must be picklable.
    """
    samples: dict[str, list[Sample]] = {stage_id: [] for stage_id in wanted}
    stopped: set[str] = set()
    with processes_for(binding, nodes, operators) as processes:
        for place, spec in enumerate(phantoms):
            found = samples_on(
                spec,
                binding,
                nodes,
                wanted,
                store=store,
                processes=processes,
                thoroughness=thoroughness if place == 0 else thoroughness.without_networks,
                operators=operators,
                measured=measured,
                stopped=stopped,
            )
            for stage_id, sample in found.items():
                samples[stage_id].append(sample)
    return {stage_id: fitted(() if stage_id in stopped else points) for stage_id, points in samples.items()}
