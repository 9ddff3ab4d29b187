"""What an operator is: parameters (the dataclass fields), types in and out, and one kernel.

An operator is a frozen dataclass; two with equal fields are the same operator. Its kernel, `apply`, is a
pure function of the operator, its inputs and the bytes its digests name: equal inputs, equal bytes out.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.values import Series, Value, ValueType

Parameter: TypeAlias = str | int | float | bool | tuple["Parameter", ...] | None
"""What a field of an operator may hold: JSON values, with tuples for lists."""


class Granularity(StrEnum):
    """What one run of an operator works on."""

    IMAGE = "image"
    """Any part of a series' images; the results of the parts are gathered by the consumer."""
    VOLUME = "volume"
    TILE = "tile"
    """A volume, worked in tiles; may be cut between tiles."""


class NetworkSession(Protocol):
    """A compiled graph, ready to run."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Outputs in graph order. `inputs` by name; those absent keep their defaults in the graph."""
        ...


class Resources(Protocol):
    """What a kernel may reach besides its inputs: networks and parameters, by digest."""

    def network(self, graph: str) -> NetworkSession: ...

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What a per-job operator knows of its job: everything that makes a result object unique, and its time.

    UIDs of result objects derive from (tenant, plan, binding, source instances, output, encoding);
    every date and time in them is `created`. A retry therefore gives equal bytes.
    """

    tenant: str
    plan: str
    binding: str
    pipeline: str
    pipeline_version: str
    created: datetime
    device: str
    software_version: str
    networks: str = ""
    """How the plan's networks run: `openvino bf16`; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelContext:
    """What `apply` is given besides the values on its edges."""

    resources: Resources
    job: JobContext | None = None
    """Present exactly where the operator is `per_job`."""
    series: Series | None = None
    """The whole source series; present exactly where the operator is `per_job`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One step of a pipeline. Subclasses add fields (their parameters) and say what they are below."""

    name: ClassVar[str]
    """The word a pipeline file uses."""
    version: ClassVar[int] = 1
    """Raised whenever equal inputs would give other bytes than before."""
    granularity: ClassVar[Granularity] = Granularity.VOLUME
    holds_gil: ClassVar[bool] = False
    """True where the kernel does not let other Python threads run: it is given a process of its own."""
    per_job: ClassVar[bool] = False
    """True where the result carries the job's identity, so it is never shared between jobs."""
    file_parameters: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file while authored; compiling puts the file in the store and its digest here."""
    idempotent: ClassVar[bool] = False
    """True where applying it again to its own result (further inputs alike) gives the same bytes."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Heavy modules that the kernel imports when it first runs; a server loads them before that."""

    @abstractmethod
    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        """The type of the result. Raises PipelineError (key: a parameter or `of`) if `inputs` do not fit."""

    @abstractmethod
    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        """Compute. Raises InputRefused where the input is outside what can be computed."""

    def parameters(self) -> dict[str, Parameter]:
        """Field names to values, in the order of the fields."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def blobs(self) -> tuple[str, ...]:
        """Digests of the stored bytes the kernel will ask `Resources` for."""
        return ()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """The operator with these parameters (JSON values: lists become tuples).

        Raises: PipelineError naming the key, for an unknown or missing parameter or a value it refuses.
        """
        from models.operators.parameters import construct  # typing machinery, not needed to compute

        operator: Self = construct(cls, parameters)
        return operator
