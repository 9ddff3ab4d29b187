"""The trained network as an ONNX graph whose normalisation a caller may replace at run time.

Every BatchNorm stays a node of its own. Its tensors are graph inputs with initialisers of the same name as
their defaults (ONNX IR 4 and later), so a runtime neither folds them into the filters nor insists on them:
whoever feeds `NAME.mean` runs another variant of the same graph. Equal weights give equal bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Weights = Mapping[str, NDArray[np.float32]]
"""Tensors by the names of the PyTorch state dict."""

NORM_TENSORS = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""What a tensor of a normalisation is called in the graph, and in the state dict."""
INPUT, OUTPUT = "input", "logits"


def norm_parameters(weights: Weights) -> dict[str, Array]:
    """All tensors of all normalisations by their names in the graph, such as `down.0.1.norm.mean`."""
    norms = sorted({name.removesuffix(".running_mean") for name in weights if name.endswith(".running_mean")})
    return {
        f"{norm}.{ours}": np.asarray(weights[f"{norm}.{theirs}"], np.float32)
        for norm in norms
        for ours, theirs in NORM_TENSORS.items()
    }


def write_onnx(weights: Weights, levels: int, path: Path) -> None:
    """Write the graph of models.training.unet.UNet: float32[n, 1, rows, columns] -> logits."""
    path.write_bytes(onnx_graph(weights, levels).SerializeToString(deterministic=True))


def onnx_graph(weights: Weights, levels: int) -> onnx.ModelProto:
    """The graph as a model, opset 17, IR version 8, checked."""
    writer = _Writer(weights)
    image, skips = INPUT, []
    for level in range(levels):
        if level:
            image = writer.add("MaxPool", [image], f"pool.{level}", kernel_shape=[2, 2], strides=[2, 2])
        image = writer.block(image, f"down.{level}")
        skips.append(image)
    writer.initialisers["twice"] = np.array([1, 1, 2, 2], np.float32)
    for level in reversed(range(levels - 1)):
        image = writer.add(
            "Resize",
            [image, "", "twice"],
            f"larger.{level}",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        image = writer.add("Concat", [image, skips[level]], f"joined.{level}", axis=1)
        image = writer.block(image, f"up.{level}")
    writer.add("Conv", [image, writer.weight("head.weight"), writer.weight("head.bias")], OUTPUT)
    model = writer.model(len(weights["head.bias"]))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Writer:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._norms = norm_parameters(weights)
        self._nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, Array] = {}

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node with one output, and give that output's name."""
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str) -> str:
        self.initialisers[name] = np.asarray(self._weights[name], np.float32)
        return name

    def block(self, image: str, name: str) -> str:
        """Twice convolution, normalisation, ReLU."""
        for unit in (f"{name}.0", f"{name}.1"):
            weight = self.weight(f"{unit}.conv.weight")
            image = self.add("Conv", [image, weight], f"{unit}.conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            tensors = [f"{unit}.norm.{tensor}" for tensor in NORM_TENSORS]
            self.initialisers |= {tensor: self._norms[tensor] for tensor in tensors}
            image = self.add("BatchNormalization", [image, *tensors], f"{unit}.norm", epsilon=1e-5)
            image = self.add("Relu", [image], f"{unit}.relu")
        return image

    def model(self, classes: int) -> onnx.ModelProto:
        image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 1, "rows", "columns"])
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", classes, "rows", "columns"])
        replaceable = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
            for name, value in self.initialisers.items()
            if name in self._norms
        ]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.initialisers.items()]
        graph = helper.make_graph(self._nodes, "ct-lungs-net", [image, *replaceable], [logits], tensors)
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="lightbox")
