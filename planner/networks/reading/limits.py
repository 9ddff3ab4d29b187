"""What a network file may ask of the planner before it is refused."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All guesses, far above any network for images; tensors outside the file are mapped, never copied."""

    file_bytes: int = (2 << 30) - 1
    """Of the ONNX file itself; protobuf takes no more."""
    external_bytes: int = 16 << 30
    """Of all tensors that lie beside it."""
    nodes: int = 20_000
    """Operators, after local functions were written out."""
    tensors: int = 50_000
    rank: int = 16
    nesting: int = 8
    """Graphs within graphs."""
    folded_bytes: int = 256 << 20
    """Of all constants together that are computed while the network is read. What only moves or converts
    numbers stays uncomputed beyond that; what would grow is refused."""
    parsed_bytes: int = 256 << 20
    """Of the ONNX file without its large tensors: parsing makes up to eight bytes of one."""
    fields: int = 4_000_000
    """Of the file's protobuf messages, walked one by one."""
