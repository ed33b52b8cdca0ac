"""Bytes: of tensors, and the most that were in use at once."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


def bytes_of(node: Any) -> int:
    """Of all tensors in nested containers, each piece of memory counted once."""
    found: dict[int, int] = {}

    def look(inner: Any) -> None:
        if isinstance(inner, torch.Tensor):
            found[inner.untyped_storage().data_ptr()] = inner.untyped_storage().nbytes()
        elif isinstance(inner, Mapping | list | tuple):
            for each in inner.values() if isinstance(inner, Mapping) else inner:
                look(each)

    look(node)
    return sum(found.values())


def forget_peak(device: torch.device) -> None:
    """Let `peak` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # where the system does not allow it, the process's peak so far counts
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> int:
    """Most bytes that were in use: on the accelerator, or without one in the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024
