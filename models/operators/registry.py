"""The words a pipeline may use. A word's module is imported when the word is first looked up."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from models.errors import PipelineError
from models.operators.base import Operator

_WHERE = {
    "argmax": "argmax:Argmax",
    "clip": "intensity:Clip",
    "close": "morphology:Close",
    "combine": "combine:Combine",
    "components": "components:Components",
    "crop_to": "crop:CropTo",
    "decode": "decode:DecodeImages",
    "dilate": "morphology:Dilate",
    "encode_seg": "encode_seg:EncodeSeg",
    "erode": "morphology:Erode",
    "ensemble": "ensemble:Ensemble",
    "fill_holes": "holes:FillHoles",
    "flip": "flip:Flip",
    "hysteresis": "threshold:Hysteresis",
    "measure": "measure:Measure",
    "network": "network:Network",
    "network_ensemble": "network_ensemble:NetworkEnsemble",
    "normalise": "intensity:Normalise",
    "normalise_volume": "normalise_volume:NormaliseVolume",
    "normalise_with": "normalise_volume:NormaliseWith",
    "one_hot": "one_hot:OneHot",
    "open": "morphology:Open",
    "pointwise": "pointwise:Pointwise",
    "refine": "refine:Refine",
    "reorient": "reorient:Reorient",
    "resample": "resample:Resample",
    "resample_cropped": "resample_cropped:ResampleCropped",
    "restore": "restore:RestoreToSource",
    "restore_probability": "restore_probability:RestoreProbability",
    "shrink": "shrink:Shrink",
    "softmax": "softmax:Softmax",
    "split_left_right": "split_left_right:SplitLeftRight",
    "stack": "stacking:Stack",
    "statistics": "statistics:Statistics",
    "threshold": "threshold:Threshold",
    "upsample": "upsample:Upsample",
}
"""Word: module in this package and class in it."""


class _Operators(Mapping[str, type[Operator]]):
    """Read-only; importing it costs nothing, and listing the words imports none of them."""

    def __getitem__(self, word: str) -> type[Operator]:
        module, _, name = _WHERE[word].partition(":")
        operator: type[Operator] = getattr(import_module(f"models.operators.{module}"), name)
        return operator

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)

    def __contains__(self, word: object) -> bool:
        return word in _WHERE


OPERATORS: Mapping[str, type[Operator]] = _Operators()


def operator_from(name: str, version: int, parameters: Mapping[str, Any]) -> Operator:
    """The operator that a plan's node names.

    Raises: PipelineError for a word or a version this Lightbox does not have (a plan compiled by another
    one), and for parameters the operator refuses.
    """
    if name not in OPERATORS:
        raise PipelineError(f"there is no operator '{name}' here", key="op")
    operator = OPERATORS[name]
    if operator.version != version:
        raise PipelineError(
            f"operator '{name}' has version {operator.version} here, not {version}: compile again", key="op"
        )
    return operator.from_parameters(parameters)
