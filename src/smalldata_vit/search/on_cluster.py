"""Trials on a cluster: each is submitted when its turn comes, found again in the queue, and cancelled when pruned."""

import secrets
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smalldata_vit.cluster_queue import Queue, shape_of
from smalldata_vit.jobs import Job
from smalldata_vit.results import write_json
from smalldata_vit.search.workers import SUBMITTED, outcome_of, submitted

LOST = 137
"""Status of a job that left the queue without a last word: as of one that was killed."""


@dataclass
class Submitted:
    """A trial's job in the queue, by its name there."""

    job: Job
    name: str
    cluster: "OnCluster"

    @property
    def where(self) -> str:
        """In words."""
        return f"as {self.name} on the cluster"

    def ended(self) -> bool:
        """Whether it has left an outcome, or has left the queue without one."""
        outcome = outcome_of(self.job.folder)
        if outcome.get("job") == self.name:
            self.job.status, self.job.seconds = int(outcome["status"]), float(outcome["seconds"])
        elif self.name in self.cluster.lost():
            self.job.status = LOST
            self.job.reason = f"{self.name} left the queue without a last word (cancelled, lost?): sacct -j {self.name}"
        else:
            return False
        self.cluster.running.discard(self.name)
        return True

    def stop(self) -> None:
        """Cancel it: it saves and leaves, and one that still waits goes at once."""
        self.cluster.queue.cancel(self.name)

    def kill(self) -> None:
        """The same: the cluster itself ends what does not leave."""
        self.stop()


class OnCluster:
    """A cluster's queue: a job for each trial, which goes on when the search ends, and is found again by the next one.

    Arguments:
        queue: the cluster, as the launcher's settings describe it.
        folder: of the search, on a disk that the cluster's machines see.
        asked: trials in the queue at the same time; `auto`: as many as hydra.launcher.jobs.
        trials: in all.
        trainer: settings of one trial's `trainer`. ConfigError if nobody can be submitted to for that.
    """

    outlive = True

    def __init__(self, queue: Queue, folder: Path, asked: int | str, trials: int, trainer: Mapping[str, Any]) -> None:
        queue.refuse(shape_of(trainer, queue.gpus_per_node))
        self.queue, self.folder = queue, folder.absolute()
        self.slots = min(trials, queue.jobs, *([asked] if isinstance(asked, int) else []))
        self.seconds_between_looks = min(1.0, queue.seconds_between_looks)
        self.running = set[str]()
        self._gone, self._lost, self._looked = set[str](), set[str](), time.monotonic()

    def free(self, folder: Path) -> bool:
        """Always: a job that is still in the queue is not submitted again."""
        return True

    def start(self, job: Job, trainer: Mapping[str, Any]) -> Submitted:
        """Submit a trial's job, unless a search before this one has; RuntimeError with what the cluster says."""
        name = self._there_already(job.folder) or self._submit(job, trainer)
        self.running.add(name)
        self._gone.discard(name)
        self._lost.discard(name)
        return Submitted(job, name, self)

    def lost(self) -> set[str]:
        """Jobs that were missing in the queue twice in a row: shared folders show a last word late."""
        if time.monotonic() - self._looked >= self.queue.seconds_between_looks:
            self._looked = time.monotonic()
            with suppress(RuntimeError):  # a cluster that does not answer now will answer later
                missing = self.running - self.queue.there(self.running)
                self._lost, self._gone = missing & self._gone, missing
        return self._lost

    def _there_already(self, folder: Path) -> str | None:
        """The job that works on a trial, or has finished it."""
        said = submitted(folder)
        if said and said["job"] is None:  # the search was killed while it submitted
            found = sorted(self.queue.named(said["name"]))
            return found[0] if found else None
        outcome = outcome_of(folder)
        if said and outcome.get("job") == said["job"]:
            return str(said["job"]) if outcome["status"] == 0 else None
        return str(said["job"]) if said and said["job"] in self.queue.there([said["job"]]) else None

    def _submit(self, job: Job, trainer: Mapping[str, Any]) -> str:
        folder, name = job.folder.absolute(), f"{self.folder.name}-{job.number}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SUBMITTED, {"name": name, "job": None})
        task = self.queue.task([sys.executable, str(job.script), *job.overrides], folder)
        [found] = self.queue.submit([task], shape_of(trainer, self.queue.gpus_per_node), self.folder / "slurm", name)
        write_json(folder / SUBMITTED, {"name": name, "job": found})
        return found
