"""What processes cost, read from /proc: CPU time and proportional memory of a process and all below it."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """parent: its pid. cpu_s: user and system time, its own and of its children that were waited for."""

    parent: int
    cpu_s: float


def read_times(pid: int) -> ProcessTimes | None:
    """What /proc says of one process; None if it is gone. Source: proc(5), fields 4 and 14 to 17 of stat."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    return ProcessTimes(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S)


def process_tree(root: int) -> list[int]:
    """Pids of `root` and everything below it that lives now, parents first; empty if `root` is gone."""
    parents = {
        int(entry.name): times.parent
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (times := read_times(int(entry.name))) is not None
    }
    tree = [root] if root in parents else []
    for pid in tree:  # grows while it is walked
        tree.extend(child for child, parent in parents.items() if parent == pid)
    return tree


def tree_cpu_s(root: int) -> float:
    """CPU seconds that `root`, its living descendants and their ended children have used so far."""
    return sum(times.cpu_s for pid in process_tree(root) if (times := read_times(pid)) is not None)


def tree_pss_bytes(root: int) -> int:
    """Proportional set size of `root` and all below it: a shared page is split among those who map it."""
    return sum(_pss_bytes(pid) for pid in process_tree(root))


def _pss_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
