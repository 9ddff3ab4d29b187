"""How the networks of a plan run here and now, in words: under a binding that may be from another machine."""

from collections import Counter

from models.engines.registry import engine_available
from planner.binding import Binding
from planner.machine import DECIDING, machine_facts
from planner.networks.joint import networks_of
from planner.networks.records import BoundNetwork, Gated
from planner.plan import Plan


def made_here(binding: Binding) -> bool:
    """Whether what passed the gates for this binding would pass here: on equal processors and engines."""
    return all(binding.machine.get(fact) == machine_facts()[fact] for fact in DECIDING)


def ways_here(bound: BoundNetwork, *, here: bool) -> tuple[Gated, ...]:
    """The choices that may run here, the best first: those whose engine is installed, but where the binding
    was not `made_here` the last alone, which is fp32."""
    choices = bound.choices if here else bound.choices[-1:]
    return tuple(choice for choice in choices if engine_available(choice.engine))


def said_ways(plan: Plan, binding: Binding) -> str:
    """`openvino bf16, onnxruntime fp32`: every way in which networks of the plan run; "" if it has none."""
    ways, here = [], made_here(binding)
    for graph in dict.fromkeys(graph for node in plan.nodes for graph in networks_of(node)):
        bound = binding.networks.get(graph)
        found = ways_here(bound, here=here) if bound else ()
        ways.append(str(found[0]) if found else "onnxruntime fp32")
    return ", ".join(dict.fromkeys(ways))


def fallbacks(binding: Binding) -> tuple[str, ...]:
    """Sentences: why networks do not run here as they were planned to, and how they do."""
    if not made_here(binding):
        number = sum(len(bound.choices) > 1 for bound in binding.networks.values())
        said = f"{number} networks were planned on another machine or for other engines: they run in fp32"
        return (said,) if number else ()
    lacking = Counter(
        (bound.choices[0].engine, str(found[0]) if found else "no engine")
        for bound in binding.networks.values()
        if bound.choices and (found := ways_here(bound, here=True))[:1] != bound.choices[:1]
    )
    return tuple(
        f"{number} networks were planned for {engine}, which is not installed here: they run on {way}"
        for (engine, way), number in sorted(lacking.items())
    )
