"""The machine and the versions that a number belongs to."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.about import commit

PACKAGES = ("torch", "torchvision", "timm", "lightning", "pillow", "numpy", "kornia", "albumentations")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def machine() -> dict[str, Any]:
    """Plain values for a JSON file."""
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "bf16_instructions": [flag for flag in BF16_FLAGS if flag in flags()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "malloc": {name: os.environ.get(name) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")},
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name)) is not None},
        "commit": commit(),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The same in one line."""
    bf16 = "+".join(facts["bf16_instructions"]) or "no bf16 instructions"
    where = facts["gpu"] or f"{facts['cpu']}, {facts['cores']} cores, {bf16}, {facts['threads']} threads"
    kept = "malloc keeps memory" if all(facts["malloc"].values()) else "malloc as it is"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{where}; load {facts['load'][0]}; {kept}; {versions}; commit {facts['commit']}"


def installed(package: str) -> str | None:
    """A package's version, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu() -> str:
    """The processor's name as the kernel has it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def flags() -> set[str]:
    """The processor's features, as the kernel names them."""
    return set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware."""
    return any(flag in flags() for flag in BF16_FLAGS)


def _cpuinfo(key: str) -> str | None:
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return None
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)
