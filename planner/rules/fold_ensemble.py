"""Makes an ensemble of networks that differ in their numbers only (folds) one step, one walk of the volume.

Instead of one whole probability map per fold there is one for all. The mean is taken of tiles before they are
blended, so sums are rounded in another order.
"""

from dataclasses import replace

from models.operators.ensemble import Ensemble
from models.operators.network import Network
from models.operators.network_ensemble import NetworkEnsemble
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def fold_ensemble(work: Work, uses: Uses) -> Work | None:
    """ensemble(network a of x, network b of x) is network_ensemble(a, b) of x. None if others read a map."""
    if not isinstance(work.operator, Ensemble):
        return None
    folds: list[Network] = []
    for source in work.inputs:
        if not isinstance(source, Work) or type(source.operator) is not Network or uses.get(source.id) != 1:
            return None
        if source.inputs != work.inputs[0].inputs:  # type: ignore[union-attr]  # checked just before
            return None
        folds.append(source.operator)
    first = folds[0]
    if any(replace(fold, graph=first.graph, variant=first.variant) != first for fold in folds):
        return None
    if not all(fold.graph.startswith("sha256:") for fold in folds):
        return None
    others = tuple((fold.graph, fold.variant) for fold in folds[1:])
    together = NetworkEnsemble(**first.parameters(), others=others)  # type: ignore[arg-type]
    return Work(together, work.inputs[0].inputs, work.step)  # type: ignore[union-attr]


FOLD_ENSEMBLE = Rule("fold_ensemble", everywhere(fold_ensemble), tolerance=1e-6)
"""Of probabilities; of the largest magnitude where a network gives logits."""
