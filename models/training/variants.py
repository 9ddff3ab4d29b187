"""Site variants: the same filters, the statistics of every normalisation estimated anew on a site's images.

This is AdaBN (Li et al., 2016): no labels and no gradients, only running means and variances.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.augment import normalised
from models.training.data import Slices
from models.training.export import norm_parameters
from models.training.unet import UNet


def reestimate(network: UNet, batches: Iterator[torch.Tensor]) -> None:
    """Replace running means and variances by those over all `batches` (network inputs), equally weighted."""
    for norm in network.norms():
        norm.reset_running_stats()
        norm.momentum = None  # a plain average of all batches
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    network.eval()


def batches_of(slices: Slices, generator: torch.Generator, size: int, count: int) -> Iterator[torch.Tensor]:
    """Network inputs float32[size, 1, rows, columns] of slices drawn at random."""
    for _ in range(count):
        chosen = torch.randint(len(slices.hu), (size,), generator=generator)
        yield normalised(torch.from_numpy(slices.hu)[chosen][:, None])


def weights_of(network: UNet) -> dict[str, NDArray[np.float32]]:
    """The state dict as arrays, without PyTorch's counters."""
    state = network.state_dict()
    return {k: v.detach().numpy().copy() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def write_variant(network: UNet, path: Path) -> None:
    """Write the means and variances of all normalisations as an .npz of equal bytes for equal numbers."""
    tensors = norm_parameters(weights_of(network)).items()
    statistics: dict[str, Any] = {name: value for name, value in tensors if name.endswith((".mean", ".var"))}
    np.savez(path, **statistics)
