"""What differs between two pipelines, step by step and setting by setting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from planner.networks.joint import networks_of
from planner.plan import Plan, PlannedOutput


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting: its dotted key and its values (None: not there)."""

    key: str
    before: Any
    after: Any


def differences(before: Plan, after: Plan) -> tuple[Difference, ...]:
    """Every difference between two plans, in the order of the file.

    Steps are told apart by name; a step reads another by name too, so that only what was changed shows and
    not everything after it.
    """
    ours, theirs = _plain(before), _plain(after)
    return tuple(_compared(ours, theirs, ""))


def other_networks(before: Plan, after: Plan) -> dict[str, tuple[str, str]]:
    """By step: the digests of the networks that it runs in either plan, where these differ.

    Only steps that run networks in both; of several (folds) the first that differs.
    """
    ours, theirs = (
        {node.step: networks_of(node) for node in plan.nodes if networks_of(node)} for plan in (before, after)
    )
    found = {}
    for step in (step for step in ours if step in theirs):
        pairs = [pair for pair in zip(ours[step], theirs[step], strict=False) if pair[0] != pair[1]]
        if pairs:
            found[step] = pairs[0]
    return found


def _plain(plan: Plan) -> dict[str, Any]:
    names = {node.id: node.step for node in plan.nodes}
    return {
        "pipeline": plan.pipeline,
        "version": plan.version,
        "title": plan.title,
        "research_use_only": plan.research_use_only,
        "input": plan.contract,
        "steps": {
            node.step: {
                "op": node.operator,
                "op version": node.version,
                "of": [names.get(source, "series") for source in node.inputs],
                **node.parameters,
            }
            for node in plan.nodes
            if not _encodes(node.id, plan)
        },
        "outputs": {output.name: _output(output, plan, names) for output in plan.outputs},
        "golden": list(plan.golden),
        "gate": {} if isinstance(plan.gate, msgspec.UnsetType) else plan.gate,
    }


def _encodes(node_id: str, plan: Plan) -> bool:
    """True for the nodes that lowering added: what they do is said by the outputs."""
    return any(node_id == output.segmentation for output in plan.outputs)


def _output(output: PlannedOutput, plan: Plan, names: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(output)
    del fields["segmentation"], fields["name"]
    fields["mask"] = names[output.mask]
    fields["measurements"] = names[output.measurements] if output.measurements else None
    fields["encoding"] = plan.node(output.segmentation).parameters.get("encoding")
    fields["segments"] = {
        segment["name"]: {key: value for key, value in segment.items() if key != "name"}
        for segment in fields["segments"]
    }
    return fields


def _compared(before: Any, after: Any, key: str) -> list[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        found = (_compared(before.get(n), after.get(n), f"{key}.{n}" if key else n) for n in names)
        return [difference for differences in found for difference in differences]
    return [] if _same(before, after) else [Difference(key, before, after)]


def _same(before: Any, after: Any) -> bool:
    """Tuples and lists with equal items are the same setting."""
    return bool(msgspec.to_builtins(before) == msgspec.to_builtins(after)) or (
        isinstance(before, list | tuple)
        and isinstance(after, list | tuple)
        and len(before) == len(after)
        and all(_same(x, y) for x, y in zip(before, after, strict=True))
    )
