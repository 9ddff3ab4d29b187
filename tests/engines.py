"""The engines that networks are tested on: onnxruntime always, OpenVINO where its extra is installed."""

import pytest

from models.engines.registry import engine_available
from planner.networks.records import Engine
from tests.conftest import absent

needs_openvino = pytest.mark.skipif(
    not engine_available("openvino"), reason="needs openvino: make test-setup"
)

ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


def needs(engine: Engine) -> Engine:
    """The engine, where it is installed; elsewhere the test is left out, and fails in CI."""
    if not engine_available(engine):
        absent(f"needs {engine}: make test-setup")
    return engine
