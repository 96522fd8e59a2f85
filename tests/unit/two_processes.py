"""Two processes of one training on this machine, as `accelerate launch` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIMIT = 240  # s; only ever waited for when something is broken


def run_in_two_processes(script: str, folder: Path) -> None:
    """Run a script with a folder as its argument, twice side by side; they know of each other."""
    running = []
    for rank in range(2):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in told.items()}
        environment |= {"ACCELERATE_USE_CPU": "1", "GLOO_SOCKET_IFNAME": "lo"}
        running.append(subprocess.Popen([sys.executable, script, str(folder)], env=environment, stderr=subprocess.PIPE))
    failures = [process.communicate(timeout=LIMIT)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], failures
