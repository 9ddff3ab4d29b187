"""`lightbox phantom`: write the chest phantom as a CT series."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.output import JsonFlag, command_errors, fail, print_json, print_line


def phantom_command(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for the DICOM files.")],
    seed: Annotated[int, typer.Option(help="Which made-up patient.")] = 1,
    slices: Annotated[int, typer.Option(min=1, help="How many images.")] = 160,
    rows: Annotated[int, typer.Option(min=1, help="Rows and columns of each.")] = 512,
    noise_hu: Annotated[float, typer.Option(help="Standard deviation of the noise, HU.")] = 15.0,
    kernel: Annotated[str, typer.Option(help="smooth, standard or sharp.")] = "standard",
    as_json: JsonFlag = False,
) -> None:
    """Write a seeded chest CT of a made-up patient whose anatomy is known. Equal options, equal bytes."""
    with command_errors():
        from models.phantom import PhantomSpec, make_phantom, write_dicom

        if folder.exists() and any(folder.iterdir()):
            fail(f"{folder} is not empty")
        try:
            spec = PhantomSpec(
                seed=seed,
                slices=slices,
                rows=rows,
                columns=rows,
                spacing_mm=(320.0 / slices, 358.4 / rows, 358.4 / rows),
                noise_hu=noise_hu,
                kernel=kernel,  # type: ignore[arg-type]  # checked by the spec, with a sentence
            )
        except ValueError as error:
            fail(str(error))
        folder.mkdir(parents=True, exist_ok=True)
        files = write_dicom(make_phantom(spec), folder)
        if as_json:
            print_json({"folder": str(folder), "files": [str(file) for file in files]})
        else:
            print_line(f"{len(files)} images in {folder}")
