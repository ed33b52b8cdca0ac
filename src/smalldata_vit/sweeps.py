"""The jobs of a sweep: checked before the first starts, a process each, told of signals, summed up at the end.

The same command again goes on where it stopped: what is finished is skipped, by the hash of its experiment, what was
interrupted goes on from its checkpoint, what failed is tried again, and values that were added are new jobs.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from smalldata_vit import config
from smalldata_vit.jobs import INTERRUPTED, Job, listening
from smalldata_vit.live_table import watched
from smalldata_vit.output import InUseError, Lock
from smalldata_vit.shares import Share, Shares, at_once, this_machine, threads_of_each
from smalldata_vit.sweep_display import Display
from smalldata_vit.sweep_plan import Planned, folder_name, plan
from smalldata_vit.sweep_progress import status_of
from smalldata_vit.sweep_queue import Queue
from smalldata_vit.sweep_record import Record
from smalldata_vit.sweep_table import counted, remark, summary
from smalldata_vit.words import ConfigError, parts

__all__ = ["SWEEPS", "ConfigError", "Sweep", "folder_name", "sweep_folder", "threads_of_each"]

SWEEPS = Path("outputs/sweeps")
BEFORE = "finished before"


@dataclass
class Sweep:
    """What all jobs of one `-m` command have in common; run.py hands it to Hydra in place of a task.

    Arguments:
        fixed: typed words that are the same for every job.
        folder: receives the jobs' folders.
        script: what every job starts.
    """

    fixed: list[str]
    folder: Path
    script: Path = config.CONF.parent / "run.py"
    status: int = 0
    received: int | None = None
    refused: ConfigError | None = None
    jobs: list[Planned] = field(default_factory=list)

    def __call__(self, cfg: Any) -> NoReturn:
        """Refuse launchers that call a function in place of starting a command."""
        raise ConfigError(
            "hydra/launcher=smalldata_vit, and on a cluster hydra/launcher=slurm, give each job a process of its own; "
            "no other does"
        )

    def launch(self, overrides: Sequence[list[str]], first: int, jobs: object) -> None:
        """Run the jobs with these words, so many at a time or `auto`; the outcome is in `status`."""
        try:
            machine = this_machine()
            batch = plan(self.fixed, overrides, first, self.folder, self.script, machine)
            slots = at_once(jobs, [planned.need for planned in batch], machine)
            with Lock(self.folder / ".lock", what=f"the sweep in {self.folder}"):
                self._run(batch, Shares(machine, slots), len(overrides) - len(batch))
        except (ConfigError, InUseError, ValueError) as error:
            self.refused = ConfigError(str(error))
            raise SystemExit(2) from error  # Hydra would print any other exception with its stack
        self.jobs += batch
        failed = any(planned.job.status != 0 for planned in self.jobs)
        self.status = 128 + self.received if self.received is not None else int(failed)
        width = shutil.get_terminal_size().columns if watched() else None
        print(summary(self.jobs, width), flush=True)
        if self.received is not None:
            raise SystemExit(self.status)

    def _run(self, batch: Sequence[Planned], shares: Shares, doubles: int) -> None:
        """Run what is not finished yet, in the locked folder."""
        record = Record(self.folder, self.fixed)
        found = {planned: status_of(planned.job.folder, planned.hash) for planned in batch}
        for planned in [planned for planned in batch if found[planned] == "finished"]:
            planned.job.status, planned.job.reason = 0, BEFORE
        for planned in batch:
            record.note(planned)
        record.write(now=True)
        todo = [planned for planned in batch if planned.job.status is None]
        before = {what: list(found.values()).count(status) for status, what in AS_LEFT.items()}
        left = f" ({counted(before)})" if any(before.values()) else ""
        twice = f", {doubles} more ask for the same as one of them" if doubles else ""
        print(f"{len(batch)} jobs{left}{twice}, {shares.at_once} at a time, in {self.folder}", flush=True)
        display = Display(batch, self.folder, shares.at_once, moves=watched())
        with display, listening(self._receive):
            try:
                Round(self, Queue(todo), shares, record, display).run()
            finally:
                record.write(now=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the jobs: the first asks them to save and leave, a second ends them."""
        again, self.received = self.received is not None, number
        for job in Job.alive():
            if again:
                job.kill()
            else:
                job.tell(number)


AS_LEFT = {"finished": BEFORE, "running": "interrupted", "interrupted": "interrupted by a signal", "failed": "failed"}
"""A status in results.json, and what is said of jobs that an earlier command left with it."""


class Round:
    """Runs the jobs that are left to do, so many at a time, until none is left or a signal came."""

    def __init__(self, sweep: Sweep, queue: Queue, shares: Shares, record: Record, display: Display) -> None:
        self.sweep, self.queue, self.shares, self.record, self.display = sweep, queue, shares, record, display
        self.held: dict[Planned, Share] = {}
        self.asked = False
        """Whether it was said that the jobs have been asked to leave."""

    def run(self) -> None:
        """Start and collect jobs until all is done."""
        queue = self.queue
        while queue.running or (queue.waiting and self.sweep.received is None):
            while len(queue.running) < self.shares.at_once and self.sweep.received is None:
                planned = queue.next()
                if planned is None:
                    break
                self.start(planned)
                if self.sweep.received is not None:  # while it was being started, so that nobody told it
                    planned.job.tell(self.sweep.received)
            time.sleep(0.05)
            for planned in [planned for planned in queue.running if planned.job.ended()]:
                self.end(planned)
            queue.look()
            self.say_what_came()
            self.display.look(queue)
            self.record.write()

    def start(self, planned: Planned) -> None:
        """Give a job its share and start it."""
        job, share = planned.job, self.shares.take(planned.need)
        self.held[planned] = share
        on = f" on GPU {','.join(share.gpus)}" if share.gpus else ""
        self.display.say(f"job {job.number} starts{on}: {job.described}")
        job.start(shown=self.shares.at_once == 1 and not self.display.moves, threads=share.threads, gpus=share.gpus)
        self.record.note(planned, started=True)

    def say_what_came(self) -> None:
        """Tell, once, that a signal has been passed on: saving takes its time."""
        if self.sweep.received is not None and self.queue.running and not self.asked:
            self.asked, many = True, len(self.queue.running)
            jobs = "the job that runs was" if many == 1 else f"the {many} jobs that run were"
            self.display.say(f"{jobs} asked to save and leave; a second signal ends them at once", wrong=True)

    def end(self, planned: Planned) -> None:
        """Write down how a job ended, and let those fail that cannot run without it."""
        job = planned.job
        self.shares.give_back(self.held.pop(planned))
        rest = f" ({words})" if (words := remark(planned)) else ""
        rest += f": {job.last_words()}" if job.status not in (0, *INTERRUPTED) else ""
        ended = f"job {job.number} {job.outcome} after {job.seconds:.0f} s"
        self.display.say(f"{ended}: {job.described}{rest}", wrong=job.status != 0)
        self.record.note(planned)
        for lost, reason in self.queue.ended(planned):
            lost.job.status, lost.job.reason = 1, reason
            self.display.say(f"job {lost.job.number} cannot run: {reason}", wrong=True)
            self.record.note(lost)


def sweep_folder(words: Sequence[str]) -> Path:
    """Where a sweep goes: the folder that was typed if all jobs share it, else one named by the sweep's own words.

    Which values a word lists does not count, nor the order of words: with another value it is the same sweep.
    """
    for word in words:
        _, key, value = parts(word)
        if key == "output_dir" and value and "${" not in value and not config.is_sweep(word):
            return Path(value.strip("'\""))
    name = next((str(parts(word)[2]) for word in words if parts(word)[1] == "name"), "sweep")
    same = sorted(parts(word)[1] if config.is_sweep(word) else word for word in words)
    digest = hashlib.sha256("\n".join(same).encode()).hexdigest()[:10]
    return SWEEPS / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-{digest}"
