"""Train `ct-lungs-net` and its site variants: minutes on two cores, no GPU.

python -m models.training.train_lungs ../shared/data [--out models/zoo] [--steps 900] [--seed 1]

The data folder may be absent: then phantoms alone are learnt from. Needs the `train` extra. With
OMP_WAIT_POLICY=PASSIVE it is up to six times faster where the cores are shared.
"""

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from models.training.augment import Augmenter, learning_rate
from models.training.data import (
    SITE_SEEDS,
    TRAINING_SEEDS,
    RealSeries,
    Slices,
    joined,
    on_network_grid,
    phantom_slices,
    real_series,
    training_spec,
)
from models.training.export import write_onnx
from models.training.sites import SITES, site_slices
from models.training.unet import WIDTHS, UNet
from models.training.variants import batches_of, reestimate, weights_of, write_variant

SIDE = 192
"""Rows and columns of what is trained on."""
PHANTOMS_PER_BATCH, REAL_PER_BATCH = 4, 2
PEAK_LEARNING_RATE = 4e-3
AVERAGE = 0.985
"""Of the weights of one step, how much the running average keeps; the average is what is exported."""
ESTIMATION_SLICES, ESTIMATION_BATCHES = 8, 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, estimate and write everything; progress goes to stderr."""
    options = _options(arguments)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    real = real_series(options.data) if options.data else []
    phantoms = phantom_slices([training_spec(seed) for seed in TRAINING_SEEDS[: options.patients]])
    _say(started, f"{len(phantoms.hu)} slices of phantoms, {[series.name for series in real]}")
    network = trained(phantoms, real, options.seed, options.steps, started)
    write_onnx(weights_of(network), len(WIDTHS), options.out / "ct-lungs-net.onnx")
    for site in SITES:
        slices = site_slices(site, SITE_SEEDS, real)
        variant = copy.deepcopy(network)
        estimate(variant, slices, options.seed)
        write_variant(variant, options.out / f"ct-lungs-net-{site.name}.npz")
        _say(started, f"{site.name}: estimated on {len(slices.hu)} slices")
    return 0


def trained(phantoms: Slices, real: Sequence[RealSeries], seed: int, steps: int, started: float) -> UNet:
    """The running average of the weights, with statistics estimated on slices as they are.

    Statistics of augmented slices did worse: on real images, and on phantoms not learnt from.
    """
    network, generator = UNet(), torch.Generator().manual_seed(seed)
    averaged = copy.deepcopy(network)
    others = [on_network_grid(series.volume, series.lungs) for series in real]
    draw = _Draw(phantoms, others, generator)
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=1e-3)
    for step in range(steps):
        images, labels = draw()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_LEARNING_RATE)
        optimiser.zero_grad()
        loss = segmentation_loss(network(images), labels)
        loss.backward()
        optimiser.step()
        _average(averaged, network, min(AVERAGE, (step + 1) / (step + 10)))
        if step % 50 == 0 or step == steps - 1:
            _say(started, f"step {step} of {steps}: loss {float(loss.detach()):.4f}")
    estimate(averaged, joined([phantoms, *others]), seed)
    return averaged


def estimate(network: UNet, slices: Slices, seed: int) -> None:
    """Estimate the statistics of all normalisations on slices drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    reestimate(network, batches_of(slices, generator, ESTIMATION_SLICES, ESTIMATION_BATCHES))


class _Draw:
    """Augmented batches of phantom and real slices; every real series is as likely as another."""

    def __init__(self, phantoms: Slices, real: Sequence[Slices], generator: torch.Generator) -> None:
        self._phantoms, self._real, self._generator = phantoms, real, generator
        self._augment = Augmenter(generator, SIDE)

    def __call__(self) -> tuple[Tensor, Tensor]:
        parts = [_some(self._phantoms, PHANTOMS_PER_BATCH, self._generator)]
        for _ in range(REAL_PER_BATCH if self._real else 0):
            which = int(torch.randint(len(self._real), (1,), generator=self._generator))
            parts.append(_some(self._real[which], 1, self._generator))
        batch = joined(parts)
        return self._augment(torch.from_numpy(batch.hu), torch.from_numpy(batch.labels))


def _some(slices: Slices, count: int, generator: torch.Generator) -> Slices:
    chosen = torch.randint(len(slices.hu), (count,), generator=generator).numpy()
    return Slices(slices.hu[chosen], slices.labels[chosen])


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy plus one minus the mean soft Dice of both lungs over the batch."""
    classes = one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    probabilities = logits.softmax(1)
    both = (probabilities * classes).sum((0, 2, 3))
    total = (probabilities + classes).sum((0, 2, 3))
    dice = (2 * both + 1) / (total + 1)
    return cross_entropy(logits, labels) + 1 - dice[1:].mean()


def _average(averaged: UNet, network: UNet, keep: float) -> None:
    with torch.no_grad():
        for ours, theirs in zip(averaged.parameters(), network.parameters(), strict=True):
            ours.lerp_(theirs, 1 - keep)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.training.train_lungs", description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="folder with dicom/ (real series to learn from)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "zoo")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--patients", type=int, default=len(TRAINING_SEEDS), help="phantoms to learn from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def _say(started: float, what: str) -> None:
    print(f"{time.monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    raise SystemExit(main())
