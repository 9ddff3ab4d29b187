"""The logical graph: operators applied to the results of operators, each named by what it computes.

A node's id is a Merkle identity (operator, version, parameters, ids of its inputs), so equal work has an
equal name in every pipeline and common prefixes meet by themselves.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from models.operators.base import Operator
from models.pipeline import SOURCE as SOURCE_STEP
from models.pipeline import SOURCE_TYPE, Output, Pipeline
from models.values import ValueType
from planner.plan import SOURCE, node_identity


@dataclass(frozen=True, slots=True)
class Source:
    """The series: what every graph begins with."""

    id: str = SOURCE
    type: ValueType = SOURCE_TYPE


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One operator applied to inputs. Equal ids are equal work; `step` is for people only.

    Raises: PipelineError when made of inputs that the operator does not take.
    """

    operator: Operator
    inputs: "tuple[Work | Source, ...]"
    step: str
    id: str = field(init=False)
    type: ValueType = field(init=False)

    def __post_init__(self) -> None:
        parameters = json_parameters(self.operator)
        inputs = tuple(value.id for value in self.inputs)
        identity = node_identity(self.operator.name, self.operator.version, parameters, inputs)
        object.__setattr__(self, "id", identity)
        object.__setattr__(self, "type", self.operator.infer([value.type for value in self.inputs]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Work) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


Uses: TypeAlias = Mapping[str, int]
"""How often each node is read, by id: by other nodes of the graph and by outputs."""


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """An output of the pipeline and the nodes that give it."""

    output: Output
    mask: Work
    measurements: Work | None

    def works(self) -> tuple[Work, ...]:
        return (self.mask,) if self.measurements is None else (self.mask, self.measurements)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order of computation (an input before its readers), and what is wanted of them."""

    nodes: tuple[Work, ...]
    outputs: tuple[GraphOutput, ...]

    def uses(self) -> Uses:
        """See Uses."""
        read = [value.id for node in self.nodes for value in node.inputs]
        return Counter(read + [work.id for output in self.outputs for work in output.works()])

    def live(self) -> frozenset[str]:
        """Ids of the nodes that some output needs."""
        return frozenset(node.id for node in reachable(w for o in self.outputs for w in o.works()))

    def without_dead(self) -> "Graph":
        """The graph without nodes that no output needs."""
        live = self.live()
        return Graph(tuple(node for node in self.nodes if node.id in live), self.outputs)

    def rewritten(self, rewrite: Callable[[Work], Work | None]) -> "Graph":
        """The graph with every node replaced by what `rewrite` gives for it (None: as it is).

        Inputs are rewritten before their readers; `rewrite` sees nodes whose inputs are already new. What
        nobody reads any more stays.
        """
        new: dict[str, Work] = {}
        nodes: dict[str, Work] = {}
        for node in self.nodes:
            inputs = tuple(new.get(value.id, value) for value in node.inputs)
            rebuilt = node if inputs == node.inputs else Work(node.operator, inputs, node.step)
            new[node.id] = rewrite(rebuilt) or rebuilt
            for work in reachable([new[node.id]]):
                nodes.setdefault(work.id, work)
        outputs = tuple(
            GraphOutput(o.output, new[o.mask.id], new[o.measurements.id] if o.measurements else None)
            for o in self.outputs
        )
        return Graph(tuple(nodes.values()), outputs)


def reachable(roots: Iterable[Work]) -> Iterator[Work]:
    """Every node that `roots` need, themselves included, inputs before readers, each once."""
    seen: set[str] = set()

    def visit(work: Work) -> Iterator[Work]:
        if work.id in seen:
            return
        seen.add(work.id)
        for value in work.inputs:
            if isinstance(value, Work):
                yield from visit(value)
        yield work

    for root in roots:
        yield from visit(root)


def graph_of(pipeline: Pipeline, order: Iterable[str]) -> Graph:
    """The graph of a checked pipeline. order: names of its steps, inputs first (`check` gives it)."""
    works: dict[str, Work | Source] = {SOURCE_STEP: Source()}
    nodes: dict[str, Work] = {}
    for name in order:
        step = pipeline.step(name)
        work = Work(step.operator, tuple(works[source] for source in step.inputs), name)
        works[name] = work = nodes.setdefault(work.id, work)
    by_name = {name: work for name, work in works.items() if isinstance(work, Work)}
    outputs = tuple(
        GraphOutput(o, by_name[o.mask], by_name[o.measurements] if o.measurements else None)
        for o in pipeline.outputs
    )
    return Graph(tuple(nodes.values()), outputs)


def json_parameters(operator: Operator) -> dict[str, Any]:
    """An operator's parameters as JSON values: tuples are lists, nested values are mappings."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(operator.parameters()))
    return plain
