"""Which digests the bytes in a store speak of: what garbage collection must follow."""

import json
from collections.abc import Iterable

from object_store.digest import Digest
from planner import binding, plan

_FORMATS = (plan.FORMAT.encode(), binding.FORMAT.encode())


def references(digest: Digest, data: bytes) -> Iterable[Digest]:
    """Plan -> its blobs; binding -> its plans; stored series -> its images; all else refers to nothing."""
    if not data.startswith(b"{"):
        return ()
    if any(b'"format":"' + name + b'"' in data for name in _FORMATS):
        fields = json.loads(data)
        named = fields["blobs"] if fields["format"] == plan.FORMAT else fields["plans"]
        return tuple(Digest.parse(text) for text in named)
    if data.startswith(b'{"series":['):
        return tuple(Digest.parse(text) for text in json.loads(data)["series"])
    return ()
