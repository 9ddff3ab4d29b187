"""Where a benchmark ran: processor, memory, versions and revision."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_FLAGS = re.compile(r"avx2|avx512.*|amx.*|.*vnni|.*bf16|sha_ni")
"""CPU flags that change what a kernel costs."""
_PACKAGES = ("numpy", "scipy", "onnxruntime", "openvino", "pydicom", "pynetdicom", "highdicom")
_ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, Any]:
    """Processor model and flags, cores this process may use, memory in bytes, system."""
    facts = _cpu_facts(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        **facts,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Python, and the libraries that do the work."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def revision() -> str:
    """The git revision of the source, `+changes` where files differ from it; `unknown` outside of git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def _cpu_facts(cpuinfo: str) -> dict[str, Any]:
    """`cpu` and `cpu_flags` out of /proc/cpuinfo."""
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    }
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "cpu": fields.get("model name", platform.machine()),
        "cpu_flags": sorted(flag for flag in set(flags) if _FLAGS.fullmatch(flag)),
    }
