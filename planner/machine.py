"""What sort of machine this is, as far as it changes how fast stages run."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from planner.canonical import identity

_FLAGS = (
    "sse4_2",
    "avx2",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "sha_ni",
    "asimd",
    "sve",
)
"""CPU flags that kernels and the hash choose their code by."""

_RUNTIMES = ("numpy", "scipy", "onnxruntime", "openvino")


DECIDING = ("cpu", "flags", "onnxruntime", "openvino")
"""Of a machine's facts those that outputs in bf16 or int8 depend on, and with them what passed the gates."""


@cache
def machine_facts() -> dict[str, Any]:
    """CPU model, cores, flags that matter and versions of what computes (Python: `3.11`): JSON values."""
    model, flags = _cpu()
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "flags": sorted(flag for flag in _FLAGS if flag in flags),
        "python": ".".join(platform.python_version_tuple()[:2]),  # a patch changes no speed and no result
        **{name: _version(name) for name in _RUNTIMES},
    }


def machine_id() -> str:
    """A short name of machine_facts(): equal machines, equal names."""
    return identity(machine_facts()).removeprefix("sha256:")[:16]


def gates_id() -> str:
    """A short name of the DECIDING facts: where it is equal, what passed the gates would pass again."""
    facts = {fact: machine_facts()[fact] for fact in DECIDING}
    return identity(facts).removeprefix("sha256:")[:16]


def _cpu() -> tuple[str, frozenset[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), frozenset(flags.split())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
