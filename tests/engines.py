"""The engines that networks are tested on: onnxruntime always, OpenVINO where its extra is installed."""

import pytest

from models.engines.registry import engine_available

needs_openvino = pytest.mark.skipif(
    not engine_available("openvino"), reason="needs openvino: make test-setup"
)

ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]
