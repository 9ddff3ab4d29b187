"""One spelling for every value: canonical JSON, so that equal things have equal bytes and equal digests."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces. Raises ValueError for NaN and infinities."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def identity(value: Any) -> str:
    """`sha256:` + the hex digest of the canonical JSON: the name of a node or a stage."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()
