"""The jobs of a sweep: checked before the first starts, a process each, told of signals, summed up at the end."""

import hashlib
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from smalldata_vit import config
from smalldata_vit.jobs import Job
from smalldata_vit.words import ConfigError, parts, quoted

SWEEPS = Path("outputs/sweeps")
LONGEST_NAME = 80
"""Characters of a job's folder name; file systems allow 255 bytes."""


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
    jobs: list[Job] = field(default_factory=list)

    def __call__(self, cfg: Any) -> NoReturn:
        """Refuse launchers that call a function in place of starting a command."""
        raise ConfigError("hydra/launcher=smalldata_vit is the only one that gives each job a process of its own")

    def launch(self, overrides: Sequence[list[str]], first: int, at_once: int) -> None:
        """Run the jobs with these words, so many at a time; the outcome is in `status`."""
        try:
            batch = self.planned(overrides, first)
        except ConfigError as error:
            self.refused = error
            raise SystemExit(2) from error  # Hydra would print any other exception with its stack
        print(f"{len(batch)} jobs, {at_once} at a time, in {self.folder}", flush=True)
        with self._listening():
            self._run(batch, at_once)
        self.jobs += batch
        failed = any(job.status != 0 for job in self.jobs)
        self.status = 128 + self.received if self.received is not None else int(failed)
        print(summary(self.jobs), flush=True)
        if self.received is not None:
            raise SystemExit(self.status)

    def planned(self, overrides: Sequence[list[str]], first: int) -> list[Job]:
        """The jobs, each composed and checked; ConfigError that names the jobs that cannot run."""
        batch, wrong = [], []
        for number, words in enumerate(overrides, start=first):
            typed = [*self.fixed, *words]
            try:
                cfg = config.compose(typed)
                config.check(cfg)
            except ConfigError as error:
                wrong.append(f"job {number} ({' '.join(words) or 'no override of its own'}): {error}")
                continue
            place = Path(cfg.output_dir) if self._places_jobs(words) else self.folder / folder_name(number, words)
            own = [word for word in typed if parts(word)[1] != "output_dir"]
            batch.append(Job(number, words, [*own, f"output_dir={quoted(str(place))}"], place, self.script))
        taken = [job.folder for job in batch]
        twice = sorted({str(folder) for folder in taken if taken.count(folder) > 1})
        wrong += [
            f"output_dir={folder} is that of several jobs: leave it to the sweep, or name every swept value"
            for folder in twice
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return batch

    def _places_jobs(self, words: Sequence[str]) -> bool:
        """Whether `output_dir` holds a swept value, so that each job has a folder without our help."""
        if any(parts(word)[1] == "output_dir" for word in words):
            return True
        return any(parts(word)[1] == "output_dir" and "${" in word for word in self.fixed)

    def _run(self, batch: Sequence[Job], at_once: int) -> None:
        waiting, running = list(batch), list[Job]()
        while running or (waiting and self.received is None):
            while waiting and len(running) < at_once and self.received is None:
                job = waiting.pop(0)
                print(f"job {job.number} starts: {job.described}", flush=True)
                job.start(shown=at_once == 1, threads=threads_of_each(at_once))
                running.append(job)
            time.sleep(0.05)
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                print(f"job {job.number} {job.outcome} after {job.seconds:.0f} s: {job.described}", flush=True)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Pass signals on to the jobs: the first asks them to save and leave, a second ends them."""
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for job in Job.alive():
                job.kill()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, number
        for job in Job.alive():
            if again:
                job.kill()
            else:
                job.tell(number)


def threads_of_each(at_once: int) -> int | None:
    """Threads for each of several jobs at a time; None leaves the choice to a single one."""
    if at_once == 1:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // at_once)


def folder_name(number: int, words: Sequence[str]) -> str:
    """A job's folder: its number and its words, in characters that no shell, file system or Hydra minds."""
    readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", word).strip("-.") for word in words)
    return f"{number:03d}_{readable}"[:LONGEST_NAME].rstrip("-_.")


def sweep_folder(words: Sequence[str]) -> Path:
    """Where a sweep goes: the folder that was typed if all jobs share it, else one named by the sweep's own words."""
    for word in words:
        _, key, value = parts(word)
        if key == "output_dir" and value and "${" not in value and not config.is_sweep(word):
            return Path(value.strip("'\""))
    name = next((str(parts(word)[2]) for word in words if parts(word)[1] == "name"), "sweep")
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
    return SWEEPS / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-{digest}"


def summary(jobs: Sequence[Job]) -> str:
    """How every job ended, and of those that failed the error and the command that repeats them."""
    width = max((len(job.described) for job in jobs), default=0)
    lines = ["", f"{'job':>4}  {'overrides':{width}}  {'status':12}  seconds"]
    lines += [f"{job.number:4d}  {job.described:{width}}  {job.outcome:12}  {job.seconds:7.0f}" for job in jobs]
    for job in (job for job in jobs if job.status not in (0, None)):
        lines += [
            f"\njob {job.number} {job.outcome}: {job.last_words()}",
            f"  to repeat it: {shlex.join(job.typed_command())}",
        ]
    return "\n".join(lines)
