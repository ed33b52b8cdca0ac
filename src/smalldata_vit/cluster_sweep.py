"""The jobs of a sweep on a cluster: submitted as one array, found again in the queue, and waited for where asked."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from smalldata_vit.cluster_queue import Queue, Shape, shape_of
from smalldata_vit.cluster_task import OUTCOME
from smalldata_vit.output import Lock
from smalldata_vit.results import read_json, write_json
from smalldata_vit.shares import Machine
from smalldata_vit.sweep_compose import Composer
from smalldata_vit.sweep_plan import Planned, plan
from smalldata_vit.sweep_progress import status_of
from smalldata_vit.sweep_record import Record
from smalldata_vit.sweep_table import summary
from smalldata_vit.sweeps import BEFORE, Sweep
from smalldata_vit.words import ConfigError

LEDGER = "slurm/jobs.json"
"""In the sweep's folder: the SLURM job that each of its folders was last submitted as."""


def launch(sweep: Sweep, overrides: Sequence[list[str]], first: int, queue: Queue) -> None:
    """Submit the jobs with these words that are neither finished nor in the queue; the outcome is in `sweep.status`."""
    try:
        with Lock(sweep.folder / ".lock", what=f"the sweep in {sweep.folder}"):
            batch = plan(sweep.fixed, overrides, first, sweep.folder, sweep.script, Machine((), 1))
            shapes = shapes_of(sweep.fixed, batch, queue.gpus_per_node)
            record = Record(sweep.folder, sweep.fixed)
            names = Submission(sweep, queue).of(batch, shapes)
            note(record, batch)
    except (ConfigError, RuntimeError, ValueError) as error:
        sweep.refused = ConfigError(str(error))
        raise SystemExit(2) from error  # Hydra would print any other exception with its stack
    sweep.jobs += batch
    if not queue.wait:
        print("the same command again says how they stand; hydra.launcher.wait=true waits for their end", flush=True)
        return
    try:
        wait_for(names, queue)
    except KeyboardInterrupt:
        print(f"the jobs stay in the queue; to end them: scancel {' '.join(names.values())}", file=sys.stderr)
        raise SystemExit(130) from None
    with Lock(sweep.folder / ".lock", what=f"the sweep in {sweep.folder}", waits=True):
        note(Record(sweep.folder, sweep.fixed), batch)
    sweep.status = int(any(planned.job.status != 0 for planned in sweep.jobs))
    print(summary(sweep.jobs), flush=True)


def shapes_of(fixed: Sequence[str], batch: Sequence[Planned], gpus_per_node: int | None) -> dict[Planned, Shape]:
    """The machines of every job."""
    composer = Composer(fixed)
    trainers = {planned: next(iter(composer(planned.job.words).stages.values()))["trainer"] for planned in batch}
    return {planned: shape_of(trainer, gpus_per_node) for planned, trainer in trainers.items()}


def note(record: Record, batch: Sequence[Planned]) -> None:
    """Write down how the jobs stand."""
    for planned in batch:
        record.note(planned)
    record.write(now=True)


class Submission:
    """Brings a sweep's jobs into the queue, each once, and says what became of each."""

    def __init__(self, sweep: Sweep, queue: Queue) -> None:
        self.sweep, self.queue = sweep, queue
        self.ledger = sweep.folder / LEDGER

    def of(self, batch: Sequence[Planned], shapes: Mapping[Planned, Shape]) -> dict[Planned, str]:
        """The name of each unfinished job in the queue: those that are there already, and new ones."""
        written: dict[str, str] = read_json(self.ledger) if self.ledger.exists() else {}
        there = self.queue.there(written.values()) if written else set()
        names: dict[Planned, str] = {}
        todo: dict[Shape, list[Planned]] = {}
        for planned in batch:
            if status_of(planned.job.folder, planned.hash) == "finished":
                planned.job.status, planned.job.reason = 0, BEFORE
            elif written.get(str(planned.job.folder)) in there:
                names[planned] = written[str(planned.job.folder)]
            else:
                todo.setdefault(shapes[planned], []).append(planned)
        waiting = len(names)
        for shape, jobs in todo.items():
            names |= zip(jobs, self._submit(jobs, shape), strict=True)
            written |= {str(planned.job.folder): names[planned] for planned in jobs}
            write_json(self.ledger, written)
        self._say(batch, names, waiting)
        return names

    def _submit(self, jobs: Sequence[Planned], shape: Shape) -> list[str]:
        tasks = [
            self.queue.task(
                [sys.executable, str(planned.job.script), *planned.job.overrides], planned.job.folder.absolute()
            )
            for planned in jobs
        ]
        return self.queue.submit(tasks, shape, self.ledger.parent.absolute(), self.sweep.folder.name)

    def _say(self, batch: Sequence[Planned], names: Mapping[Planned, str], waiting: int) -> None:
        finished = len(batch) - len(names)
        print(
            f"{len(batch)} jobs: {finished} {BEFORE}, {waiting} in the queue before, {len(names) - waiting} submitted, "
            f"in {self.sweep.folder}"
        )
        for planned in batch:
            print(f"job {planned.job.number} {names.get(planned, BEFORE)}: {planned.job.folder}", flush=True)


def wait_for(names: Mapping[Planned, str], queue: Queue) -> None:
    """Wait until every job has left an outcome, or has left the queue without one."""
    left, gone, looked = dict(names), set[Planned](), time.monotonic()
    while left:
        time.sleep(min(1.0, queue.seconds_between_looks))
        for planned in [planned for planned, name in left.items() if ended(planned, name)]:
            del left[planned]
            job = planned.job
            print(f"job {job.number} {job.outcome} after {job.seconds:.0f} s: {job.described}", flush=True)
        if time.monotonic() - looked < queue.seconds_between_looks:
            continue
        looked = time.monotonic()
        there = set(left.values())
        with suppress(RuntimeError):  # a cluster that does not answer now will answer later
            there = queue.there(left.values())
        missing = {planned for planned, name in left.items() if name not in there}
        for planned in missing & gone:  # twice in a row: shared folders show a last word late
            name = left.pop(planned)
            planned.job.status = 1
            planned.job.reason = f"{name} left the queue without a last word (cancelled, lost?): sacct -j {name}"
        gone = missing


def ended(planned: Planned, name: str) -> bool:
    """Whether a job has left its outcome, which is then in the job."""
    file = planned.job.folder / OUTCOME
    outcome = read_json(file) if file.exists() else {}
    if outcome.get("job") != name:
        return False
    planned.job.status, planned.job.seconds = int(outcome["status"]), float(outcome["seconds"])
    return True
