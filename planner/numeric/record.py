"""What a binding says of a chain of numeric nodes that is computed as one graph."""

import msgspec


class Fused(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes of one plan or more, each the only reader of the one before, and the graph that computes them.

    graph: digest of an ONNX model. tolerance: how far its result may be from that of the nodes one by one,
    relative to the largest magnitude in it (labels are equal). numpy_s, onnx_s: as measured when chosen.
    """

    nodes: tuple[str, ...]
    graph: str
    tolerance: float
    numpy_s: float
    onnx_s: float
