"""How child processes are made: forked from one small server that has imported what all of them need.

fork of the main process is out (threads, event loop), spawn would import everything once per process. The
fork server imports the few modules below once, while the main process imports its own, and its children
share those pages.
"""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_SHARED_IMPORTS = ["serving.preload"]
"""It brings numpy, pydicom and pynetdicom; highdicom, scipy and onnxruntime are imported where they run."""

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Library thread pools in every worker would fight over the cores: one thread per run is planned for."""


def start_fork_server() -> ForkServerContext:
    """Start it (it goes on importing by itself) and return the way every child is made.

    Sets the environment that children inherit. The fork server ends with this process.
    """
    for variable in _ONE_THREAD:
        os.environ.setdefault(variable, "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SHARED_IMPORTS)
    forkserver.ensure_running()
    return context
