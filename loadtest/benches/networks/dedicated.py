"""The black box: one onnxruntime session per model file, in one process, and what that costs in memory.

A program of its own, so that its memory is its own: `python -m loadtest.benches.networks.dedicated`.
"""

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from loadtest.benches.networks.unet import INPUT
from loadtest.processes import tree_pss_bytes

SIDE = 256


def image(seed: int = 0, side: int = SIDE) -> NDArray[np.float32]:
    """float32[1, 1, side, side], standard normal."""
    return np.random.default_rng(seed).standard_normal((1, 1, side, side)).astype(np.float32)


def dedicated_session(model: Path, *, tuned: bool, threads: int | None = None) -> Any:
    """A session as a user opens it: at its defaults, or `tuned`: one arena for all, no spinning threads."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if tuned:
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def share_one_arena() -> None:
    """Register the arena that tuned sessions use."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, None)


def main(arguments: list[str]) -> int:
    """Open sessions one after the other; after each of `--counts`, memory when every one has answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", required=True)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of an image's rows and columns")
    options = parser.parse_args(arguments)
    threads = 1 if options.tuned else None  # as the family's stage; the defaults take every core
    if options.tuned:
        share_one_arena()
    fed = {INPUT: image(side=options.side)}
    empty = tree_pss_bytes(os.getpid())
    sessions, first_answer_s, bytes_at = [], [], {}
    for number, model in enumerate(options.models, start=1):
        started = time.perf_counter()
        sessions.append(dedicated_session(model, tuned=options.tuned, threads=threads))
        sessions[-1].run(None, fed)
        first_answer_s.append(time.perf_counter() - started)
        if number in options.counts:
            gc.collect()
            bytes_at[number] = tree_pss_bytes(os.getpid()) - empty
    json.dump({"bytes_at": bytes_at, "first_answer_s": first_answer_s}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
