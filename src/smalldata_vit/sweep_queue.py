"""Which job may start: one whose next stage another job is making waits for that stage, and takes up no slot."""

from collections.abc import Sequence

from smalldata_vit.results import read_json
from smalldata_vit.store import outcome_of
from smalldata_vit.sweep_plan import Planned


class Queue:
    """The jobs that are still to start, in their order, and the shared stages that those which run are making.

    Two processes would not make one stage of the store at the same time either: the second waits for its lock. But it
    would wait with its images loaded, in a slot that another job could use.
    """

    def __init__(self, jobs: Sequence[Planned]) -> None:
        self.waiting = list(jobs)
        self.running: list[Planned] = []
        self.made: dict[str, Planned] = {}
        """Shared stages that are finished, and the job that was the first to have them."""
        self.making: dict[str, Planned] = {}

    def next(self) -> Planned | None:
        """The first job that need not wait, now among those that run; None if there is none."""
        chosen = next((job for job in self.waiting if self.awaited(job) is None), None)
        if chosen is not None:
            self.waiting.remove(chosen)
            self.running.append(chosen)
            for key in chosen.shared.values():
                if key not in self.made:
                    self.making.setdefault(key, chosen)
        return chosen

    def next_stage(self, job: Planned) -> tuple[str, str] | None:
        """Name and key of the first shared stage of a job that is not finished yet, as far as this sweep knows."""
        return next(((name, key) for name, key in job.shared.items() if key not in self.made), None)

    def awaited(self, job: Planned) -> tuple[Planned, str] | None:
        """The running job that makes the next stage of a waiting one, and the stage's name."""
        found = self.next_stage(job)
        if found is None or found[1] not in self.making:
            return None
        return self.making[found[1]], found[0]

    def look(self) -> None:
        """See which of the stages that somebody waits for are finished by now."""
        for maker, name in {found for job in self.waiting if (found := self.awaited(job)) is not None}:
            self._finished(maker, name)

    def ended(self, job: Planned) -> list[tuple[Planned, str]]:
        """A job is over; returns the waiting ones that cannot run because of that, each with the reason.

        Those wait for a stage of its, and its process said why that failed. A process that was killed said nothing:
        then the next job goes on with the stage from its last checkpoint.
        """
        self.running.remove(job)
        for name in job.shared:
            self._finished(job, name)
        broken = {}
        for key in [key for key, maker in self.making.items() if maker is job]:
            del self.making[key]
            name = next(name for name, own in job.shared.items() if own == key)
            if (error := error_of(job, name)) is not None:
                broken[key] = f"{name}, which job {job.job.number} made for it, failed: {error}"
        lost = [(other, found[1]) for other in self.waiting if (found := self.next_stage(other)) and found[1] in broken]
        self.waiting = [other for other in self.waiting if other not in {other for other, _ in lost}]
        return [(other, broken[key]) for other, key in lost]

    def _finished(self, job: Planned, name: str) -> None:
        key = job.shared[name]
        if key not in self.made and outcome_of(job.job.folder / name).get("status") == "finished":
            self.made[key] = job
            self.making.pop(key, None)


def error_of(job: Planned, stage: str) -> str | None:
    """What a job's results say about the failure of a stage; None if they speak of none."""
    file = job.job.folder / "results.json"
    if job.job.status in (0, None) or not file.exists():
        return None
    said = read_json(file).get("stages", {}).get(stage, {})
    return str(said.get("error")) if said.get("status") == "failed" else None
