"""What each value of a network is: equal identities, equal computation, in whichever network."""

from collections.abc import Mapping

from planner.canonical import identity
from planner.networks.structure import Structure


def value_ids(structure: Structure, tensor_digests: Mapping[str, str]) -> dict[str, str]:
    """A Merkle identity for every input, constant, learned tensor and computed value, by its name.

    tensor_digests: for every learned tensor, the digest of its bytes. An operator's identity holds its type,
    opset and attributes and the identities of what it reads; the network's inputs go by place and dtype, so
    that networks which differ elsewhere have the same values where they compute the same.

    Raises: KeyError for a tensor without a digest.
    """
    ids = {port.name: identity(["input", place, port.dtype]) for place, port in enumerate(structure.inputs)}
    for name, constant in structure.constants.items():
        ids[name] = identity(["constant", constant.dtype, constant.shape, constant.numbers])
    for name, kind in structure.tensors.items():
        ids[name] = identity(["tensor", kind.dtype, kind.shape, tensor_digests[name]])
    for op in structure.ops:
        read = [ids[name] if name else "" for name in op.inputs]
        whole = [op.domain, op.type, structure.opset, op.attributes, read]
        for place, name in enumerate(op.outputs):
            if name:
                ids[name] = identity(["value", *whole, place])
    return ids
