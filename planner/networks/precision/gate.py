"""The accuracy gate: whether another way of running a network finds the same segments as fp32 onnxruntime."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of every case, against the labels of fp32 onnxruntime.

    A segment of fewer than `tiny_voxels` in the reference is tiny: there one voxel is more than a percent of
    volume or half a percent of Dice, so it is judged by voxels: no more than `tiny_differing` may differ.
    Tiny segments enter neither the least nor the mean Dice; segments empty on both sides are left out too.
    """

    least_dice: float = 0.99
    mean_dice: float = 0.995
    volume_change: float = 0.01
    """Of any segment, relative to the reference."""
    tiny_voxels: int = 100
    tiny_differing: int = 2


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one way of running did on some cases.

    least_dice, mean_dice, volume_change: the worst of the cases; 1, 1 and 0 where nothing was there to judge.
    """

    passed: bool
    least_dice: float
    mean_dice: float
    volume_change: float
    segments: int
    """Judged by Dice, over all cases."""
    tiny: int
    """Judged by voxels, over all cases."""
    failures: tuple[str, ...]
    """One sentence for each thing that failed."""
    unseen: tuple[str, ...] = ()
    """Segments, by name where they have names, that no case shows in fp32: nothing is known of them."""

    @property
    def judged(self) -> int:
        """How many segments there were to judge, over all cases. Without any, every way would pass."""
        return self.segments + self.tiny


def judge(case: str, reference: Sequence[Labels], found: Sequence[Labels], gate: Gate) -> Verdict:
    """Judge one case. Its pieces (slices, cubes) count as one image.

    reference, found: integer labels of equal shapes, piece by piece; 0 is background.
    """
    highest = max(max(int(part.max(initial=0)) for part in (*reference, *found)), 0) + 1
    ours, theirs, both = (np.zeros(highest, np.int64) for _ in range(3))
    for one, other in zip(reference, found, strict=True):
        theirs += np.bincount(one.ravel(), minlength=highest)
        ours += np.bincount(other.ravel(), minlength=highest)
        both += np.bincount(one.ravel()[one.ravel() == other.ravel()], minlength=highest)
    there = np.flatnonzero(ours[1:] + theirs[1:]) + 1
    tiny = there[theirs[there] < gate.tiny_voxels]
    large = there[theirs[there] >= gate.tiny_voxels]
    dice = 2 * both[large] / (ours[large] + theirs[large])
    change = np.abs(ours[large] - theirs[large]) / theirs[large]
    failures = [
        f"{case}: segment {segment} has Dice {value:.4f}, below {gate.least_dice}"
        for segment, value in zip(large, dice, strict=True)
        if value < gate.least_dice
    ]
    failures += [
        f"{case}: the volume of segment {segment} changes by {value:.2%}, more than {gate.volume_change:.0%}"
        for segment, value in zip(large, change, strict=True)
        if value > gate.volume_change
    ]
    differing = ours[tiny] + theirs[tiny] - 2 * both[tiny]
    failures += [
        f"{case}: tiny segment {segment} of {theirs[segment]} voxels differs in {count}, "
        f"more than {gate.tiny_differing}"
        for segment, count in zip(tiny, differing, strict=True)
        if count > gate.tiny_differing
    ]
    mean = float(dice.mean()) if len(dice) else 1.0
    if mean < gate.mean_dice:
        failures.append(f"{case}: mean Dice {mean:.4f} is below {gate.mean_dice}")
    return Verdict(
        passed=not failures,
        least_dice=float(dice.min(initial=1.0)),
        mean_dice=mean,
        volume_change=float(change.max(initial=0.0)),
        segments=len(large),
        tiny=len(tiny),
        failures=tuple(failures),
    )


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Several cases together: passed where all passed."""
    return Verdict(
        passed=all(one.passed for one in verdicts),
        least_dice=min((one.least_dice for one in verdicts), default=1.0),
        mean_dice=min((one.mean_dice for one in verdicts), default=1.0),
        volume_change=max((one.volume_change for one in verdicts), default=0.0),
        segments=sum(one.segments for one in verdicts),
        tiny=sum(one.tiny for one in verdicts),
        failures=tuple(sentence for one in verdicts for sentence in one.failures),
        unseen=tuple(sorted({name for one in verdicts for name in one.unseen})),
    )


def refused(why: str) -> Verdict:
    """Where nothing could be compared."""
    return msgspec.structs.replace(worst(()), passed=False, failures=(why,))
