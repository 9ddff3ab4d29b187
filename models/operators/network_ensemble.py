"""Networks that differ in their numbers only, over one volume, as one: the mean of their probabilities."""

from dataclasses import dataclass
from typing import ClassVar

from models.operators.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEnsemble(Network):
    """As `network`, for several graphs; the planner makes it of `ensemble` and `network` steps.

    others: (graph, variant) of all networks but the first, digests as they are in the store. Every tile is
    made once, and tile by tile the mean is all that is kept.
    """

    name: ClassVar[str] = "network_ensemble"
    others: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        super(NetworkEnsemble, self).__post_init__()  # slots make a second class of this name
        if not self.others:
            raise ValueError("others must name at least one network")
        if not all(graph.startswith("sha256:") for graph, _ in self.members()):
            raise ValueError(
                "others is what the planner makes of an ensemble: write network and ensemble steps"
            )

    def members(self) -> tuple[tuple[str, str], ...]:
        return ((self.graph, self.variant), *self.others)

    def blobs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(digest for member in self.members() for digest in member if digest))
