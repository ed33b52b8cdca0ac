"""What a process must be started with so that its numbers are steady: threads, and a malloc that keeps its memory."""

import os
import sys
from collections.abc import Mapping, Sequence

KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc returns large blocks to the kernel and gets them again, cleared, at every step; up to 1 GiB it keeps them."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SAID = "SMALLDATA_VIT_BENCH_STARTED"
"""Set once the process has been started anew, so that this happens once."""


def settings(one_thread: bool, present: Mapping[str, str]) -> dict[str, str]:
    """What is missing in an environment; values that somebody chose stay."""
    wanted = {SAID: "1", **KEPT, **(ONE_THREAD if one_thread else {})}
    return {name: value for name, value in wanted.items() if name not in present}


def start_again(words: Sequence[str], one_thread: bool) -> None:
    """Replace this process by itself with the settings that only a new process takes; says so, and does so once."""
    missing = settings(one_thread, os.environ)
    if SAID in os.environ:
        return
    said = " ".join(f"{name}={value}" for name, value in missing.items() if name != SAID)
    print(f"started again with {said or 'the settings that were given'}", file=sys.stderr, flush=True)
    line = [sys.executable, "-m", "smalldata_vit.bench", *words]
    os.execve(sys.executable, line, {**os.environ, **missing})
