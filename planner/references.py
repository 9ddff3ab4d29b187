"""Which digests the bytes in a store speak of: what garbage collection must follow."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from object_store.digest import Digest
from planner import binding, plan
from planner.networks.keeping import FORMATS, network_references
from planner.networks.tuned import TUNED_FORMAT

_KNOWN = frozenset({plan.FORMAT, binding.FORMAT, TUNED_FORMAT, *FORMATS})
"""Formats whose fields are understood here."""

_KINDS = frozenset(known.rpartition("/")[0] for known in _KNOWN)
_DIGEST = re.compile(rb'"(sha256:[0-9a-f]{64}:(?:0|[1-9][0-9]{0,18}))"')


def references(digest: Digest, data: bytes) -> Iterable[Digest]:
    """What an object refers to; plain bytes refer to nothing.

    Plan -> its blobs. Binding -> its plans, and the variants and builds that its networks run from. Network,
    family, variant, build -> what they are made of. Stored series -> its images. Any of these as another
    version of Lightbox wrote it -> every digest in it, whatever it is there for.
    """
    if not data.startswith(b"{"):
        return ()
    if data.startswith(b'{"series":['):
        return tuple(Digest.parse(text) for text in json.loads(data)["series"])
    format_ = _format(data)
    if format_ not in _KNOWN:
        texts = (found.decode() for found in _DIGEST.findall(data)) if _of_our_kinds(format_) else ()
        return tuple(Digest.parse(text) for text in dict.fromkeys(texts))
    if format_ not in (plan.FORMAT, binding.FORMAT, TUNED_FORMAT):
        return network_references(data)
    fields = json.loads(data)
    match format_:
        case plan.FORMAT:
            named = fields["blobs"]
        case binding.FORMAT:
            named = _of_binding(fields)
        case _:
            named = (way["build"] for way in fields["ways"])
    return tuple(Digest.parse(text) for text in dict.fromkeys(named) if text)


def needs(digest: Digest, data: bytes) -> Iterable[Digest]:
    """What an object needs the networks of: the references of a plan of any version, and of every record
    that another version of Lightbox wrote, as nobody here knows which of them are networks it runs."""
    format_ = _format(data)
    if format_ == plan.FORMAT or (format_ not in _KNOWN and _of_our_kinds(format_)):
        return references(digest, data)
    return ()


def _format(data: bytes) -> str:
    """What the object says it is; empty if it says nothing of ours."""
    if not data.startswith(b"{") or b'"format":"lightbox.' not in data:
        return ""
    try:
        said = json.loads(data).get("format")
    except ValueError:  # the bytes of somebody's file
        return ""
    return said if isinstance(said, str) else ""


def _of_our_kinds(format_: str) -> bool:
    return format_.rpartition("/")[0] in _KINDS


def _of_binding(fields: dict[str, Any]) -> Iterator[str]:
    yield from fields["plans"]
    for network in fields.get("networks", {}).values():
        yield from (network["variant"], network["family"])
        yield from (choice["build"] for choice in network["choices"])
    yield from (chain["graph"] for chain in fields.get("fused", ()))
    for joint in fields.get("joint", ()):
        yield from (run["build"] for run in (joint["parts"] or {"runs": ()})["runs"])
