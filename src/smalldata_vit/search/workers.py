"""Where trials run: on this machine, which they share. A cluster's queue, `on_cluster.py`, offers the same."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from smalldata_vit.cluster_task import OUTCOME
from smalldata_vit.jobs import Job
from smalldata_vit.output import InUseError, Lock
from smalldata_vit.results import read_json
from smalldata_vit.shares import Machine, Share, Shares, at_once, need_of

SUBMITTED = "submitted.json"
"""In the folder of a trial that went to a cluster: the name that its job was submitted under, and that job."""


@runtime_checkable
class Work(Protocol):
    """A trial's job where it runs."""

    job: Job

    @property
    def where(self) -> str:
        """That place in words, empty for this machine."""

    def ended(self) -> bool:
        """Whether it is over; then the job holds its status and seconds."""

    def stop(self) -> None:
        """Ask it to save and leave."""

    def kill(self) -> None:
        """End it at once."""


@runtime_checkable
class Workers(Protocol):
    """Those who run trials.

    Arguments:
        slots: how many trials at the same time.
        outlive: whether their jobs go on when the search ends.
        seconds_between_looks: at the jobs and the files that they write.
    """

    slots: int
    outlive: bool
    seconds_between_looks: float

    def free(self, folder: Path) -> bool:
        """Whether a trial that a dead search left in a folder can be begun again: nothing else works on it."""

    def start(self, job: Job, trainer: Mapping[str, Any]) -> Work:
        """Start a trial's job on what these settings of `trainer` need; RuntimeError where nobody takes it."""


@dataclass
class Process:
    """A trial's job as a process of this machine."""

    job: Job
    share: Share
    shares: Shares
    where: str = ""

    def ended(self) -> bool:
        """Whether the process is over; its share is free then."""
        over = self.job.ended()
        if over:
            self.shares.give_back(self.share)
        return over

    def stop(self) -> None:
        """Ask it to save and leave."""
        self.job.tell(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.job.tell(signal.SIGKILL)


class Here:
    """This machine: a process for each trial, which ends with the search.

    Arguments:
        machine: what the trials share.
        asked: trials at the same time, or `auto`.
        trials: in all.
        trainer: settings of one trial's `trainer`.
    """

    outlive = False
    seconds_between_looks = 0.1

    def __init__(self, machine: Machine, asked: int | str, trials: int, trainer: Mapping[str, Any]) -> None:
        self.machine = machine
        self.slots = at_once(asked, [need_of(trainer, machine)] * trials, machine)
        self.shares = Shares(machine, self.slots)

    def free(self, folder: Path) -> bool:
        """Not while the last processes of a killed search still die there; what went to a cluster goes on there."""
        said = submitted(folder)
        if said and outcome_of(folder).get("job") != said["job"]:
            return False
        if not (folder / ".lock").exists():
            return True
        try:
            with Lock(folder / ".lock"):
                return True
        except InUseError:
            return False

    def start(self, job: Job, trainer: Mapping[str, Any]) -> Process:
        """Start a process with its share of the machine."""
        share = self.shares.take(need_of(trainer, self.machine))
        job.start(shown=False, threads=share.threads, gpus=share.gpus)
        return Process(job, share, self.shares)


def submitted(folder: Path) -> dict[str, Any]:
    """Under which name a trial's job was submitted, and what it is called since; empty if it never was."""
    file = folder / SUBMITTED
    return dict(read_json(file)) if file.exists() else {}


def outcome_of(folder: Path) -> dict[str, Any]:
    """What the last job that a cluster ran in a folder left; empty if none has ended."""
    file = folder / OUTCOME
    return dict(read_json(file)) if file.exists() else {}
