"""The real networks beside the project, and real images cut in two: one half calibrates, the other judges."""

import gzip
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.precision.cases import Case, Feed
from planner.networks.structure import Opened

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

CUBE = 128
_CORNER = (24, 64)
"""Of the cubes along the second and third axis: both conformed heads' brains lie around it."""
_BATCH = 4
"""Slices of one run: the `network` operator's default."""
MESHNETS = (
    "model5_gw_ae",
    "model20chan3cls",
    "model18cls",
    "model30chan18cls",
    "model_11ch_ACR",
    "model_11ch_ARC",
    "model11_gw_ae",
    "model21_104class",
    "mnm_tfjs_me_test",
)
BUNDLED = "ct-lungs-net"
SITES = ("low-dose", "sharp-kernel", "smooth-kernel", "thick-slices")
"""The bundled network and its variants: the one family among the real networks that was trained as such."""
CT_NETWORKS = ("unet_small_ct_lung", BUNDLED)
NETWORKS = (*CT_NETWORKS, *MESHNETS)

_T2W = ("model_11ch_ACR", "model_11ch_ARC")
"""Networks for T2-weighted images; all other MeshNets take T1-weighted ones."""


@dataclass(frozen=True, slots=True)
class RealNetwork:
    """calibration, held_out: two halves of one image. labels: of one run's outputs, 0 is background.

    siblings: its bundled variants, which are of its family. lifted: tensors in which they differ, which are
    inputs of the stage that all of them share.
    """

    name: str
    file: Path
    opened: Opened
    calibration: Case
    held_out: Case
    labels: Callable[[list[NDArray[Any]]], NDArray[Any]]
    siblings: tuple[Opened, ...] = ()
    lifted: tuple[str, ...] = ()


def networks(names: tuple[str, ...] = NETWORKS) -> Iterator[RealNetwork]:
    """Each when it is asked for. Raises: FileNotFoundError without the real data."""
    from planner.networks.reading.opening import open_network

    if not DATA.is_dir():
        raise FileNotFoundError("the real networks and images in ../shared/data are not there")
    chest: Mapping[str, NDArray[np.float32]] = _chest() if set(names) & set(CT_NETWORKS) else {}
    for name in names:
        if name in CT_NETWORKS:
            yield _ct_network(name, open_network(_file(name)), chest[name])
        else:
            yield _meshnet(name, open_network(_file(name)))


def registered(store: Store, opened: Opened, siblings: tuple[Opened, ...] = ()) -> Digest:
    """Put a network into the store as the base of its family, then the others. Raises: StoreError."""
    from planner.networks.families.register import register

    network = register(store, opened).network
    for sibling in siblings:
        register(store, sibling)
    return network


def _lifted(opened: Opened, siblings: tuple[Opened, ...]) -> tuple[str, ...]:
    """What registering them lifts: their normalisations."""
    from object_store.opening import open_store
    from planner.networks.families.members import families

    with tempfile.TemporaryDirectory(prefix="bench-lifted-") as folder, open_store(Path(folder)) as store:
        base = registered(store, opened, siblings)
        return families(store)[str(base)].lifted


def _sites() -> Iterator[Opened]:
    """The bundled variants of the bundled network."""
    from models.pipeline_file import ZOO
    from planner.networks.reading.opening import open_network

    for site in SITES:
        with np.load(ZOO / f"{BUNDLED}-{site}.npz") as own:
            yield open_network(_file(BUNDLED), {name: own[name] for name in own.files})


def _file(name: str) -> Path:
    from models.pipeline_file import ZOO

    return ZOO / f"{name}.onnx" if name == BUNDLED else DATA / "models" / name / "model.onnx"


def _meshnet(name: str, opened: Opened) -> RealNetwork:
    """Cubes on both sides of the midline, normalised as the network's check says."""
    with np.load(DATA / "models" / name / "check.npz") as check:
        low, high = (float(value) for value in check["norm"])
    volume = (_conformed("M2265_T2w" if name in _T2W else "t1_crop") - np.float32(low)) / np.float32(
        high - low
    )
    second, third = (slice(start, start + CUBE) for start in _CORNER)

    def half(said: str, start: int) -> Case:
        cube = np.ascontiguousarray(volume[start : start + CUBE, second, third], np.float32)
        return Case(said, ({"x0": cube[None, None]},))

    return RealNetwork(name, _file(name), opened, half("left half", CUBE), half("right half", 0), _largest)


def _ct_network(name: str, opened: Opened, slices: NDArray[np.float32]) -> RealNetwork:
    """All slices of the lower and of the upper half, in batches; the last of a half may be smaller."""
    middle = len(slices) // 2

    def half(said: str, part: NDArray[np.float32]) -> Case:
        feeds: list[Feed] = [
            {"x0": np.ascontiguousarray(part[start : start + _BATCH, None])}
            for start in range(0, len(part), _BATCH)
        ]
        return Case(said, tuple(feeds))

    siblings = tuple(_sites()) if name == BUNDLED else ()
    return RealNetwork(
        name,
        _file(name),
        opened,
        half("lower half", slices[:middle]),
        half("upper half", slices[middle:]),
        _largest if name == BUNDLED else _above_half,
        siblings,
        _lifted(opened, siblings) if siblings else (),
    )


def _largest(outputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.asarray(outputs[0].argmax(axis=1))


def _above_half(outputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.asarray(outputs[0] > 0.5, np.uint8)


def _conformed(name: str) -> NDArray[np.float32]:
    """A volume of 256^3 uint8: NIfTI-1, one file (voxels from byte vox_offset on, first axis fastest)."""
    data = gzip.decompress((DATA / "nifti" / f"{name}.nii.gz").read_bytes())
    offset = int(np.frombuffer(data, "<f4", 1, 108)[0])
    voxels = np.frombuffer(data, np.uint8, 256**3, offset)
    return voxels.reshape((256, 256, 256), order="F").astype(np.float32)


def _chest() -> dict[str, NDArray[np.float32]]:
    """What the two CT networks read of the real chest: float32[slices, rows, columns], rising z."""
    from zipfile import ZipFile

    from models.pipeline_file import pipeline_path, read_pipeline
    from models.training.local import STACKED, run_pipeline, stacked_volume
    from models.values import Volume

    pipeline = read_pipeline(pipeline_path("ct-lungs-net"))
    with tempfile.TemporaryDirectory(prefix="bench-precision-") as folder:
        with ZipFile(DATA / "dicom" / "ct-chest-philips.zip") as archive:
            archive.extractall(folder)
        series = next(path.parent for path in sorted(Path(folder).rglob("*")) if path.is_file())
        stacked = stacked_volume(pipeline, series)
    (scaled,) = run_pipeline(pipeline, {STACKED: stacked}, "scaled")
    assert isinstance(scaled, Volume)
    rising = stacked.voxels if stacked.affine[2, 0] > 0 else stacked.voxels[::-1]
    return {
        "unet_small_ct_lung": np.asarray(rising + 1024, np.float32),
        "ct-lungs-net": np.pad(
            scaled.voxels.astype(np.float32), ((0, 0), *((0, -side % 16) for side in scaled.shape[1:]))
        ),
    }
