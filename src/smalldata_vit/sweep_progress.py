"""How far a job of a sweep is, read from what it leaves in its folder; nothing of a stage has to be loaded for that."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.results import read_json

LOG = "job.log"
_LENGTH = re.compile(r"^(?P<stage>\w+): .*? on \d+ images, (?P<steps>\d+) steps of ", re.M)
"""What a stage says of itself when it begins."""
_TAKEN = re.compile(r"^(\w+): finished before with the same settings and data, skipped", re.M)
_PACE_SECONDS = 2.0
"""From a shorter time nothing is said about the time that is left."""


@dataclass(frozen=True)
class Seen:
    """Arguments: the `stage` that runs, its `share` that is done (0 to 1), the seconds that are `left` to it at the
    pace that was seen, and the `best` value so far of the metric by which it is judged. None where nothing is known."""

    stage: str | None = None
    share: float | None = None
    left: float | None = None
    best: tuple[str, float] | None = None


class Watch:
    """Looks at a running job again and again, each time just at what is new.

    What an earlier command left in the job's log before the watch was made says nothing about this one.

    Arguments:
        judged_by: of every stage, in order, the metric by which it is judged.
    """

    def __init__(self, folder: Path, judged_by: Mapping[str, str]) -> None:
        self.folder, self.judged_by = folder, judged_by
        self.log_read = (folder / LOG).stat().st_size if (folder / LOG).exists() else 0
        self.read: dict[str, int] = {}
        """Bytes of each stage's numbers that were looked at."""
        self.best: dict[str, float] = {}
        self.step: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        """How many each stage has, as far as it has begun."""
        self.since: dict[str, tuple[int, float]] = {}
        """The step at which a stage was first seen to move, and when that was."""

    def look(self) -> Seen:
        """How far the job is now."""
        self._read_log()
        stages = list(self.judged_by)
        known = [name for name in stages if name in self.steps or self._numbers(name).exists()]
        if not known:
            return Seen()
        stage = known[-1]
        if stage != stages[-1] and self._finished(stage):
            return Seen(stages[stages.index(stage) + 1])
        if self._numbers(stage).exists():
            self._read_on(stage)
        best = (self.judged_by[stage], self.best[stage]) if stage in self.best else None
        if stage not in self.steps or stage not in self.step:
            return Seen(stage, best=best)
        return Seen(stage, min(1.0, self.step[stage] / max(1, self.steps[stage])), self._left(stage), best)

    def _left(self, stage: str) -> float | None:
        """Seconds to the stage's last step; None while there is no pace, and after it."""
        step, now = self.step[stage], time.monotonic()
        first, began = self.since.setdefault(stage, (step, now))
        if step < first:  # cut back to a checkpoint
            first, began = self.since[stage] = (step, now)
        if not first < step < self.steps[stage] or now - began < _PACE_SECONDS:
            return None
        return (now - began) / (step - first) * (self.steps[stage] - step)

    def _finished(self, stage: str) -> bool:
        file = self.folder / stage / "stage.json"
        return file.exists() and read_json(file).get("status") == "finished"

    def _read_log(self) -> None:
        """Take over what the stages have said about their length since the last look."""
        file = self.folder / LOG
        if not file.exists():
            return
        with file.open("rb") as opened:
            opened.seek(self.log_read)
            new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.log_read += len(whole)
        for found in _LENGTH.finditer(whole.decode(errors="replace")):
            self.steps[found["stage"]] = int(found["steps"])

    def _numbers(self, stage: str) -> Path:
        return self.folder / stage / "metrics.csv"

    def _read_on(self, stage: str) -> None:
        """Take over the new lines of a stage's metrics.csv; a file that became shorter was cut back to a checkpoint."""
        with self._numbers(stage).open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.read.get(stage, 0):
                self.read[stage] = 0
                for known in (self.best, self.step):
                    known.pop(stage, None)
            file.seek(self.read.get(stage, 0))
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.read[stage] = self.read.get(stage, 0) + len(whole)
        wanted, lines = f",{self.judged_by[stage]},", whole.decode(errors="replace").splitlines()
        if lines and (step := lines[-1].partition(",")[0]).isdigit():
            self.step[stage] = int(step)
        for line in lines:
            if wanted in line:
                value = float(line.rpartition(",")[2])
                self.best[stage] = max(value, self.best.get(stage, value))


def final(folder: Path, judged_by: Mapping[str, str]) -> tuple[str, float] | None:
    """The metric by which a job's last stage is judged, on validation or, without one, on test; None if it has none."""
    file = folder / "results.json"
    stages = read_json(file).get("stages", {}) if file.exists() else {}
    for stage, metric in reversed(list(judged_by.items())):
        found = stages.get(stage, {}).get("metrics", {})
        for name in (metric, metric.replace("val/", "test/", 1)):
            if found.get(name) is not None:
                return name, float(found[name])
    return None


def taken(folder: Path) -> list[str]:
    """The stages that a job did not make itself but found finished in the store."""
    file = folder / LOG
    said = _TAKEN.findall(file.read_text(errors="replace")) if file.exists() else []
    return [stage for stage in dict.fromkeys(said) if (folder / stage).is_symlink()]


def status_of(folder: Path, experiment: str) -> str | None:
    """How an earlier command left a job, as its results.json has it; None if it never ran, or was another one then.

    `experiment`: the job's hash. A job that was killed still says that it is running.
    """
    file = folder / "results.json"
    found = read_json(file) if file.exists() else {}
    return str(found.get("status")) if found.get("config_hash") == experiment else None
