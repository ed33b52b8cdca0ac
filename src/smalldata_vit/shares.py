"""What a machine has for the jobs of a sweep, and what each of them gets of it: GPUs and threads."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""How much of the cores a container may use: microseconds of each so many, or `max`."""
_PATIENCE = 30
"""Seconds that nvidia-smi may take; on a machine with eight GPUs without persistence it takes several."""


@dataclass(frozen=True)
class Machine:
    """Arguments: `gpus`, by the names that `CUDA_VISIBLE_DEVICES` takes; `cores` that this process may use."""

    gpus: tuple[str, ...]
    cores: int


@dataclass(frozen=True)
class Need:
    """What a job runs on: so many processes a stage, each on a GPU of its own if `on_gpu`.

    Arguments:
        processes: None for as many as it sees GPUs (`trainer.devices=auto`).
    """

    processes: int | None
    on_gpu: bool

    @property
    def least(self) -> int:
        """Processes that it starts at the least."""
        return self.processes or 1


@dataclass(frozen=True)
class Share:
    """What a job was given. None: everything that is there, as a command alone has it."""

    threads: int | None
    gpus: tuple[str, ...] | None


def this_machine(devices: Path = Path("/dev"), quota: Path = QUOTA) -> Machine:
    """The GPUs and cores that this process may use, found out without loading torch."""
    return Machine(visible_gpus(devices), cores_here(quota))


def cores_here(quota: Path) -> int:
    """Cores that this process may run on, no more than its container's share of them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed, _, period = quota.read_text().strip().partition(" ") if quota.exists() else ("max", "", "")
    return max(1, min(here, int(allowed) // int(period))) if allowed != "max" else here


def visible_gpus(devices: Path) -> tuple[str, ...]:
    """The GPUs that a job could use: those of `CUDA_VISIBLE_DEVICES` where it is set, else all of the machine's."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        names = [name.strip() for name in named.split(",")]
        # CUDA reads up to the first that cannot be one.
        return tuple(names[: next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))])
    return listed_gpus() or tuple(
        sorted((found[1] for path in devices.glob("nvidia*") if (found := _DEVICE.fullmatch(path.name))), key=int)
    )


_DEVICE = re.compile(r"nvidia(\d+)")
_LISTED = re.compile(r"GPU (\d+):|\s+MIG .*\(UUID: (MIG-[^)]+)\)")


def listed_gpus() -> tuple[str, ...]:
    """What `nvidia-smi -L` lists: numbers of GPUs, or where one is cut into instances the names of those."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = [match for line in listed.splitlines() if (match := _LISTED.match(line))]
    names: list[str] = []
    for place, match in enumerate(found):
        cut = place + 1 < len(found) and found[place + 1][2] is not None
        if match[2] is not None or not cut:
            names.append(match[2] or match[1])
    return tuple(names)


def need_of(trainer: Mapping[str, Any], machine: Machine) -> Need:
    """What a job with these settings of `trainer` runs on here."""
    on_gpu = bool(machine.gpus) and trainer["accelerator"] in ("auto", "gpu", "cuda")
    if trainer["devices"] == "auto":
        return Need(None if on_gpu else 1, on_gpu)
    return Need(int(trainer["devices"]), on_gpu)


def at_once(asked: object, needs: Sequence[Need], machine: Machine) -> int:
    """How many jobs run at the same time; ValueError if `asked` is neither a number above 0 nor `auto`.

    `auto`: as many as there are GPUs for, else as many as have a core for each of their processes.
    """
    if asked == "auto":
        on_gpu = [need.least for need in needs if need.on_gpu]
        fitting = len(machine.gpus) // max(on_gpu) if on_gpu else machine.cores // max(need.least for need in needs)
        return max(1, min(fitting, len(needs)))
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        raise ValueError(f"hydra.launcher.jobs={asked} is neither auto nor a number of jobs above 0")
    return min(asked, max(1, len(needs)))


def threads_of_each(at_once: int) -> int | None:
    """Threads for each of several jobs at a time; None leaves the choice to a single one."""
    return None if at_once == 1 else max(1, cores_here(QUOTA) // at_once)


class Shares:
    """Hands out a machine to so many jobs at a time; no GPU goes to two jobs while another is free."""

    def __init__(self, machine: Machine, at_once: int) -> None:
        self.machine, self.at_once = machine, at_once
        self.held: Counter[str] = Counter()

    def take(self, need: Need) -> Share:
        """What the next job gets. One that runs alone gets everything."""
        if self.at_once == 1:
            return Share(None, None)
        threads = max(1, self.machine.cores // (self.at_once * need.least))
        if not need.on_gpu:
            return Share(threads, None)
        many = need.processes or max(1, len(self.machine.gpus) // self.at_once)
        free_first = sorted(self.machine.gpus, key=lambda gpu: self.held[gpu])
        gpus = tuple(sorted(free_first[:many], key=self.machine.gpus.index))
        self.held.update(gpus)
        return Share(threads, gpus)

    def give_back(self, share: Share) -> None:
        """The job is over."""
        self.held.subtract(share.gpus or ())
