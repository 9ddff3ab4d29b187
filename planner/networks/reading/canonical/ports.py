"""Free sizes named by place, and the types of the outputs."""

from planner.networks.errors import NotOpenable
from planner.networks.reading.canonical.graph import Graph, ports_in_words
from planner.networks.structure import Port


def name_free_sizes(graph: Graph) -> None:
    """Call the free sizes of the inputs d0, d1 ... in order of appearance; equal words stay equal."""
    words = {word: f"d{place}" for place, word in enumerate(ports_in_words(graph.inputs))}
    graph.inputs = [
        Port(port.name, port.dtype, tuple(words[s] if isinstance(s, str) else s for s in port.shape))
        for port in graph.inputs
    ]


def types_of_outputs(graph: Graph) -> tuple[Port, ...]:
    """Outputs y0 ... as inferred; sizes that cannot be are words of their own, u0, u1 ...

    What the file declares only helps where nothing was inferred: exporters call the same size by many words.
    Raises: NotOpenable: no-shape.
    """
    words: dict[str, str] = {}
    ports = []
    for place, (name, declared) in enumerate(zip(graph.names_out, graph.outputs, strict=True)):
        found = graph.type_of(name)
        dtype, shape = found.dtype or declared.dtype, found.shape
        if shape is None and declared.dtype:
            shape = tuple(size if isinstance(size, int) else None for size in declared.shape)
        if not dtype or shape is None:
            raise NotOpenable("no-shape", f"what output {place} is like cannot be told")
        sizes: list[int | str] = []
        for size in shape:
            if size is None or (isinstance(size, str) and size.startswith("\0")):
                sizes.append(words.setdefault(size or f"\0{len(words)}", f"u{len(words)}"))
            else:
                sizes.append(size)
        ports.append(Port(f"y{place}", dtype, tuple(sizes)))
    return tuple(ports)
