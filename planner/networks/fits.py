"""Whether an opened network can be run by the step that names it: found out before anything is computed."""

from collections.abc import Sequence

from models.operators.network import Network
from planner.networks.structure import Opened

Size = int | str


def misfit(network: Network, opened: Opened) -> tuple[str, str] | None:
    """Why the step cannot run this network, as (its setting, sentence); None if nothing is known against it.

    Sizes that the graph leaves free fit anything, and so do sides that are fixed where only the series will
    tell how large a volume is.
    """
    fed = opened.structure.inputs[opened.input_names.index(network.input)].shape
    axes = 4 if network.mode == "slices" else 5
    if len(fed) != axes:
        return "mode", f"the graph takes {_said(fed)}, and mode: {network.mode} feeds {axes} axes"
    if network.mode == "slices" and isinstance(fed[0], int) and fed[0] != network.batch:
        return "batch", f"the graph takes {fed[0]} at a time: batch must be {fed[0]}"
    if isinstance(fed[1], int) and fed[1] != 1:
        return "graph", f"the graph takes {fed[1]} channels, and a network step feeds 1"
    for side, patch in zip(fed[2:], network.patch or (), strict=False):
        if isinstance(side, int) and side != patch:
            return (
                "patch",
                f"the graph takes {_said(fed)}, which a patch of {_said(network.patch or ())} is not",
            )
    given = opened.structure.outputs[network.output].shape
    if len(given) != axes:
        return "output", f"the graph gives {_said(given)}, which is no map of what it is fed"
    return _misfit_of_classes(given[1], len(network.segments))


def _misfit_of_classes(classes: Size, segments: int) -> tuple[str, str] | None:
    if isinstance(classes, str) or classes == segments + 1 or classes == segments == 1:
        return None
    if segments == 1:
        return (
            "segments",
            f"the graph gives {classes} classes; one segment needs 1, or 2 with the background first",
        )
    return (
        "segments",
        f"the graph gives {classes} classes; {segments} segments need {segments + 1}, the background first",
    )


def _said(shape: Sequence[Size]) -> str:
    return "[" + ", ".join("any" if isinstance(size, str) else str(size) for size in shape) + "]"
