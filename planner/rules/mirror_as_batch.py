"""Makes test-time mirroring that is written out (flips, networks, an ensemble) one network with `mirror`.

It then walks the volume once, and feeds small pieces with all their mirror images in one batch. Only where
the pieces of the mirrored volume are the mirrored pieces: whole volumes or slices, without padding. Sums are
rounded in another order.
"""

from dataclasses import replace
from typing import Literal

from models.operators.ensemble import Ensemble
from models.operators.flip import Flip
from models.operators.mirroring import AXES
from models.operators.network import Network
from planner.graph import Source, Uses, Work
from planner.rules.rule import Rule, everywhere

Axis = Literal["slices", "rows", "columns"]


def mirror_as_batch(work: Work, uses: Uses) -> Work | None:
    """ensemble(net(x), flip(net(flip(x))), ...), once for every choice of axes, is a net(x) that mirrors."""
    if not isinstance(work.operator, Ensemble):
        return None
    images = [_image(source, uses) for source in work.inputs]
    found = [image for image in images if image is not None]
    if len(found) < len(images):
        return None
    _, network, volume = found[0]
    if any(other != network or source != volume for _, other, source in found):
        return None
    axes: list[Axis] = [axis for axis in AXES if any(axis in chosen for chosen, _, _ in found)]  # type: ignore[misc]
    choices = {chosen for chosen, _, _ in found}
    if not len(found) == len(choices) == 2 ** len(axes) or not _mirrors_alike(network, axes):
        return None
    return Work(replace(network, mirror=tuple(axes)), (volume,), work.step)


def _image(source: Work | Source, uses: Uses) -> tuple[frozenset[str], Network, Work | Source] | None:
    """Along which axes, what, and of which volume: the network's result on one mirror image, turned back."""
    back: frozenset[str] = frozenset()
    if isinstance(source, Work) and isinstance(source.operator, Flip) and uses.get(source.id) == 1:
        back, source = frozenset(source.operator.axes), source.inputs[0]
    if not isinstance(source, Work) or type(source.operator) is not Network or uses.get(source.id) != 1:
        return None
    network, volume = source.operator, source.inputs[0]
    if back:
        if not isinstance(volume, Work) or not isinstance(volume.operator, Flip):
            return None
        if frozenset(volume.operator.axes) != back:
            return None
        volume = volume.inputs[0]
    return back, network, volume


def _mirrors_alike(network: Network, axes: list[Axis]) -> bool:
    if network.mirror or network.multiple_of > 1 or network.mode == "sliding_window":
        return False
    return network.mode == "whole" or "slices" not in axes


MIRROR_AS_BATCH = Rule("mirror_as_batch", everywhere(mirror_as_batch), tolerance=1e-6)
"""Of probabilities; of the largest magnitude where a network gives logits."""
