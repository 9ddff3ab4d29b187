"""What this machine's engines compute faster than fp32."""

from functools import cache

from planner.networks.precision.layers import Level
from planner.networks.records import Engine


@cache
def levels_of(engine: Engine) -> tuple[Level, ...]:
    """Levels below fp32 worth trying, if the engine is installed. Whether they are faster is measured."""
    if engine == "onnxruntime":
        return ("int8",)  # its CPU kernels know no bf16
    from models.engines.openvino import capabilities

    return ("bf16", "int8") if "BF16" in capabilities() else ("int8",)
