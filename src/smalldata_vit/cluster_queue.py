"""A cluster's queue as a sweep sees it: the machines that a job needs, who submits, and whose jobs are still there."""

import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from smalldata_vit.cluster_task import Task
from smalldata_vit.words import ConfigError


@dataclass(frozen=True)
class Shape:
    """The machines that a job needs; one rank is started for each GPU, or without GPUs for each device."""

    nodes: int
    tasks_per_node: int
    gpus_per_node: int


@runtime_checkable
class Queue(Protocol):
    """A cluster, as the launcher's settings describe it."""

    gpus_per_node: int | None
    wait: bool
    jobs: int

    def refuse(self, shape: Shape) -> None:
        """ConfigError where there is nobody to submit to, or none with such machines."""

    def submit(self, tasks: Sequence[Task], shape: Shape, folder: Path, name: str) -> list[str]:
        """Submit these tasks at once; the names of their jobs."""

    def task(self, command: list[str], folder: Path) -> Task:
        """What a job runs."""

    def there(self, names: Collection[str]) -> set[str]:
        """Those of these jobs that wait or run, perhaps among others; RuntimeError if the cluster does not say."""

    def named(self, name: str) -> set[str]:
        """The jobs that wait or run and were submitted under this name; RuntimeError if the cluster does not say."""

    def cancel(self, job: str) -> None:
        """Have a job save and leave, and not come back; one that still waits goes at once."""

    @property
    def seconds_between_looks(self) -> float:
        """How often the cluster is asked."""


def shape_of(trainer: Mapping[str, Any], gpus_per_node: int | None) -> Shape:
    """The machines for a job with these settings of `trainer`; ConfigError where tasks and GPUs would not be the same.

    `gpus_per_node`: None for as many as `trainer.devices` asks for, or one where that is `auto`.
    """
    devices, accelerator = trainer["devices"], trainer["accelerator"]
    if accelerator == "cpu":
        if gpus_per_node:
            raise ConfigError(f"hydra.launcher.gpus_per_node={gpus_per_node} would lie idle with trainer=cpu")
        return Shape(trainer["nodes"], 1 if devices == "auto" else int(devices), 0)
    gpus = gpus_per_node if gpus_per_node is not None else 1 if devices == "auto" else int(devices)
    tasks = max(1, gpus) if devices == "auto" else int(devices)
    if gpus and tasks != gpus:
        raise ConfigError(
            f"trainer.devices={devices} ranks on each machine, but hydra.launcher.gpus_per_node={gpus}: every rank "
            f"has a GPU of its own, so they must be equal, or trainer.devices=auto"
        )
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator=gpu needs hydra.launcher.gpus_per_node of at least 1")
    return Shape(trainer["nodes"], tasks, gpus)


def squeue(name: str | None = None) -> set[str]:
    """This user's SLURM jobs that wait or run, or those of one name: 4711, or 4711_3 in an array."""
    line = ["squeue", "--me", "--array", "--noheader", "--format=%i", *([] if name is None else [f"--name={name}"])]
    asked = subprocess.run(line, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise RuntimeError(f"`{' '.join(line)}` says: {(asked.stderr or asked.stdout).strip()}")
    return set(asked.stdout.split())


def scancel(job: str) -> None:
    """Have SLURM end a job; what it answers if it cannot is said."""
    asked = subprocess.run(["scancel", job], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        said = (asked.stderr or asked.stdout).strip()
        print(f"`scancel {job}` says: {said}", file=sys.stderr, flush=True)


def processes_among(names: Collection[str]) -> set[str]:
    """Those names that are numbers of processes that run on this machine."""
    return {name for name in names if _runs(int(name))}


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
