"""Generated series for benchmarks and the demo: phantom files on disk, made once per run."""

from pathlib import Path

from loadtest.studies import StudyTemplate
from models.phantom import PhantomSpec, phantom_series

CHEST_MM = 280.0
"""What a generated series covers, from above the lungs to the upper abdomen."""


def chest_spec(seed: int, slices: int, *, size: int = 512) -> PhantomSpec:
    """A chest CT of `slices` images, size x size pixels, that covers the whole chest."""
    return PhantomSpec(
        seed=seed,
        slices=slices,
        rows=size,
        columns=size,
        spacing_mm=(CHEST_MM / slices, 358.4 / size, 358.4 / size),
    )


def chest_template(folder: Path, seed: int, slices: int, *, size: int = 512) -> StudyTemplate:
    """The same as files in `folder`, read as a template."""
    phantom_series(chest_spec(seed, slices, size=size), folder)
    return StudyTemplate.read(folder)
