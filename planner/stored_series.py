"""A series kept in the store, for golden cases: a list of its images' digests, in canonical JSON."""

import json
from pathlib import Path

from models.values import ImageReference, Series
from object_store.digest import Digest
from object_store.opening import Store
from planner.canonical import canonical_json


def store_series(store: Store, folder: Path) -> Digest:
    """Put every file of `folder` into the store; the digest of the list, in the order of the file names."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return store.objects.put(canonical_json({"series": [str(store.objects.put_file(f)) for f in files]}))


def series_images(data: bytes) -> tuple[Digest, ...]:
    """The digests of the files of a stored series."""
    return tuple(Digest.parse(text) for text in json.loads(data)["series"])


def materialised(store: Store, digest: Digest, folder: Path) -> Series:
    """The stored series as kernels want it, its images written to `folder`."""
    images = series_images(store.objects.get(digest))
    references = [_image(store, image, folder / f"{n:06}.dcm") for n, image in enumerate(images)]
    return Series(tuple(sorted(references, key=lambda reference: reference.sop_instance_uid)))


def _image(store: Store, digest: Digest, path: Path) -> ImageReference:
    from pydicom import dcmread

    path.write_bytes(store.objects.map(digest))
    dataset = dcmread(path, force=True, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
    return ImageReference(str(path), str(digest), str(dataset.SOPInstanceUID))
