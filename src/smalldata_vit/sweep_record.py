"""`jobs.json` in a sweep's folder, for scripts: what its jobs are and how they ended, those of earlier commands too.

Schema 1. What decides whether a job runs again is its own results.json: this file only tells.

    schema     1
    command    the words of the latest command
    jobs       {folder: {
        number     in the latest command that had the job
        words      its own among the sweep's overrides
        command    that repeats it
        hash       of its experiment
        status     waiting, running, finished (now or before), failed (its exit status), interrupted
        starts     how many times its process was started in all
        seconds    of the latest start
        error      one sentence, when it failed
        metric     {name: value} by which its last stage is judged, when it finished}}
"""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smalldata_vit.atomic import remove_unfinished
from smalldata_vit.jobs import Job
from smalldata_vit.results import read_json, write_json
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import final

SCHEMA = 1
EVERY_SECONDS = 2.0
"""Between two writings at the least."""
SHARE = 0.02
"""Of a sweep's time that writing may take: the record of a thousand jobs is large."""


class Record:
    """The record of one sweep; whoever makes it holds the lock of its folder.

    Arguments:
        folder: of the sweep. An earlier record in it is continued.
        words: of the command.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.folder, self.file = folder, folder / "jobs.json"
        remove_unfinished(folder)
        before = read_json(self.file) if self.file.exists() else {"schema": SCHEMA, "jobs": {}}
        if before.get("schema") != SCHEMA:
            raise ValueError(f"{self.file} has schema {before.get('schema')!r}, this version writes {SCHEMA}: move it")
        self.data: dict[str, Any] = before | {"command": shlex.join(words)}
        self.next = 0.0

    def note(self, planned: Planned, started: bool = False) -> None:
        """How a job is now; `started`: its process has just been started."""
        job, old = planned.job, self.data["jobs"].get(self._name(planned), {})
        entry: dict[str, Any] = {
            "number": job.number,
            "words": list(job.words),
            "command": job.to_repeat(),
            "hash": planned.hash,
            "status": self._status(job, started),
            "starts": old.get("starts", 0) + int(started),
            "seconds": round(job.seconds, 2) if job.reason is None else old.get("seconds"),
        }
        if job.status == 0:
            metric = final(job.folder, planned.judged_by)
            entry["metric"] = {} if metric is None else dict([metric])
        elif job.status is not None:
            entry["error"] = job.last_words()
        self.data["jobs"][self._name(planned)] = entry

    def write(self, now: bool = False) -> None:
        """Replace the file, if the last time is long enough ago or it has to be `now`."""
        began = time.monotonic()
        if now or began >= self.next:
            write_json(self.file, self.data)
            ended = time.monotonic()
            self.next = ended + max(EVERY_SECONDS, (ended - began) / SHARE)

    @staticmethod
    def _status(job: Job, started: bool) -> str:
        if job.status is None and not started:
            return "waiting"
        return "finished" if job.status == 0 else job.outcome

    def _name(self, planned: Planned) -> str:
        return os.path.relpath(planned.job.folder, self.folder)
