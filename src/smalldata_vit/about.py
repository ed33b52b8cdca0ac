"""What a run was made with: command, commit, versions, machine."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "timm", "torchmetrics", "scikit-learn")


def about(typed: Sequence[str]) -> dict[str, object]:
    """Plain values for a JSON file; `commit` ends in `+changes` when the checkout differs from it."""
    return {
        "typed": list(typed),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
        "executable": Path(sys.executable).name,
    }


def commit() -> str | None:
    """The checkout's commit, None outside a git checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
