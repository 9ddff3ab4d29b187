"""Dice of `ct-lungs-net` and its variants on what they never saw, as the tables of the model card.

python -m models.training.evaluate ../shared/data [--sheets FOLDER]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.phantom import PhantomSpec, make_phantom
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from models.training.data import HELD_OUT_SEEDS, series_folder, training_spec
from models.training.grid import lungs_only
from models.training.local import STACKED, as_stacked, run_pipeline, stacked_volume
from models.training.sites import SITES
from models.values import LabelMap, Volume

CHEST = "ct-chest-philips"
CHEST_MASK = f"expected/unet_small_ct_lung/{CHEST}_lung_mask.nii.gz"
NET, CLASSICAL = "ct-lungs-net", "ct-lungs"
MASK = "lungs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with dicom/ and expected/")
    parser.add_argument("--sheets", type=Path, help="write a contact sheet of the chest here")
    options = parser.parse_args(arguments)
    net, classical = _read(NET), _read(CLASSICAL)
    chest = _chest(options.data, classical)
    _print_table(("What", "Left", "Right", "Both"), _general(options.data, net, classical, chest))
    _print_table(("Site", "Images", "Base", "Variant"), _by_site(net, classical, chest))
    if options.sheets:
        write_sheet(net, chest, options.sheets / "chest.png")
    return 0


def lungs_of(pipeline: Pipeline, stacked: Volume) -> LabelMap:
    """What the pipeline finds."""
    (mask,) = run_pipeline(pipeline, {STACKED: stacked}, MASK)
    assert isinstance(mask, LabelMap)
    return mask


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """1 for equal masks, also empty ones; 0 for disjoint ones."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def sides(found: LabelMap, truth: LabelMap) -> tuple[float, float, float]:
    """Dice of (left, right, both together)."""
    one, other = found.labels, truth.labels
    return dice(one == 1, other == 1), dice(one == 2, other == 2), dice(one > 0, other > 0)


def scanned_phantom(spec: PhantomSpec) -> tuple[Volume, LabelMap]:
    """A phantom as `stack` would give it, and its lungs."""
    phantom = make_phantom(spec)
    return as_stacked(phantom.volume), lungs_only(phantom.truth)


def expected_mask(data: Path, stacked: Volume) -> LabelMap:
    """The mask of `unet_small_ct_lung` on the chest series, both lungs as one, on the grid of `stacked`."""
    import nibabel

    image = nibabel.load(data / CHEST_MASK)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = (to_lps @ image.affine)[:, [2, 1, 0, 3]]
    labels = np.asarray(image.dataobj, np.uint8).transpose(2, 1, 0)
    flips = tuple(axis for axis in range(3) if float(affine[:3, axis] @ stacked.affine[:3, axis]) < 0)
    return LabelMap(np.flip(labels, flips), stacked.affine, ("Lung",))


def write_sheet(net: Pipeline, chest: Volume, path: Path) -> None:
    """A picture of the chest with the lungs that the network finds."""
    from models.contact_sheet import contact_sheet

    path.write_bytes(contact_sheet(chest, [lungs_of(net, chest)]))


def _read(name: str) -> Pipeline:
    return read_pipeline(pipeline_path(name))


def _chest(data: Path, pipeline: Pipeline) -> Volume:
    with series_folder(data, CHEST) as folder:
        if folder is None:
            raise SystemExit(f"there is no {CHEST} below {data}")
        return stacked_volume(pipeline, folder)


def _general(
    data: Path, net: Pipeline, classical: Pipeline, chest: Volume
) -> Iterator[tuple[str | float, ...]]:
    found, reference = lungs_of(net, chest), lungs_of(classical, chest)
    expected = expected_mask(data, chest)
    yield (f"{CHEST}, against {CLASSICAL}", *sides(found, reference))
    yield (f"{CHEST}, against unet_small_ct_lung", "", "", sides(found, expected)[2])
    yield (f"{CHEST}, {CLASSICAL} against unet_small_ct_lung", "", "", sides(reference, expected)[2])
    for pipeline in (net, classical):
        results = [_on_phantom(pipeline, training_spec(seed)) for seed in HELD_OUT_SEEDS]
        left, right, both = np.mean(results, axis=0)
        name = f"{pipeline.name}: {len(results)} phantoms, mixed scans, mean"
        yield (name, float(left), float(right), float(both))
        yield (f"{name.removesuffix('mean')}worst", *(float(v) for v in np.min(results, axis=0)))


def _on_phantom(pipeline: Pipeline, spec: PhantomSpec) -> tuple[float, float, float]:
    stacked, truth = scanned_phantom(spec)
    return sides(lungs_of(pipeline, stacked), truth)


def _by_site(net: Pipeline, classical: Pipeline, chest: Volume) -> Iterator[tuple[str | float, ...]]:
    reference = lungs_of(classical, chest)
    for site in SITES:
        pair = net, _read(f"{NET}-{site.name}")
        images = [scanned_phantom(site.phantom(seed)) for seed in HELD_OUT_SEEDS[:4]]
        yield (site.name, "4 phantoms", *(_mean(pipeline, images) for pipeline in pair))
        simulated = [(replace(chest, voxels=site.scanned(chest, 9).voxels), reference)]
        yield (site.name, f"{CHEST}, simulated", *(_mean(pipeline, simulated) for pipeline in pair))


def _mean(pipeline: Pipeline, images: Sequence[tuple[Volume, LabelMap]]) -> float:
    """Mean Dice of left and right lung over images."""
    return float(np.mean([sides(lungs_of(pipeline, stacked), truth)[:2] for stacked, truth in images]))


def _print_table(head: Sequence[str], rows: Iterator[Sequence[str | float]]) -> None:
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")  # noqa: T201
    for row in rows:
        cells = (cell if isinstance(cell, str) else f"{cell:.4f}" for cell in row)
        print(f"| {' | '.join(cells)} |", flush=True)  # noqa: T201
    print()  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
