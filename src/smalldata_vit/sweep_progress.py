"""How far a job of a sweep is, read from what it leaves in its folder; nothing of a stage has to be loaded for that."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.results import read_json

LOG = "job.log"
_TAIL = 4096
_PROGRESS = re.compile(
    r"^(?P<title>[\w]+): \w+ (?P<done>\d+)/(?P<total>\d+) \(\d+ %(?:, (?P<left>[^)]+) left)?\)", re.M
)
_TAKEN = re.compile(r"^(\w+): finished before with the same settings and data, skipped", re.M)


@dataclass(frozen=True)
class Seen:
    """Arguments: the `stage` that runs, its `share` that is done (0 to 1), the time that is `left` to it, in words, and
    the `best` value so far of the metric by which it is judged. None where nothing is known yet."""

    stage: str | None = None
    share: float | None = None
    left: str | None = None
    best: tuple[str, float] | None = None


class Watch:
    """Looks at a running job again and again, each time just at what is new.

    Arguments:
        judged_by: of every stage, in order, the metric by which it is judged.
    """

    def __init__(self, folder: Path, judged_by: Mapping[str, str]) -> None:
        self.folder, self.judged_by = folder, judged_by
        self.read: dict[str, int] = {}
        """Bytes of each stage's numbers that were looked at."""
        self.best: dict[str, float] = {}

    def look(self) -> Seen:
        """How far the job is now."""
        stage = next((name for name in reversed(list(self.judged_by)) if self._numbers(name).exists()), None)
        if stage is None:
            return Seen()
        self._read_on(stage)
        best = (self.judged_by[stage], self.best[stage]) if stage in self.best else None
        said = [match for match in _PROGRESS.finditer(tail(self.folder / LOG)) if match["title"] == stage]
        if not said:
            return Seen(stage, best=best)
        return Seen(stage, int(said[-1]["done"]) / max(1, int(said[-1]["total"])), said[-1]["left"], best)

    def _numbers(self, stage: str) -> Path:
        return self.folder / stage / "metrics.csv"

    def _read_on(self, stage: str) -> None:
        """Take over the new lines of a stage's metrics.csv; a file that became shorter was cut back to a checkpoint."""
        with self._numbers(stage).open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.read.get(stage, 0):
                self.read[stage] = 0
                self.best.pop(stage, None)
            file.seek(self.read.get(stage, 0))
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.read[stage] = self.read.get(stage, 0) + len(whole)
        wanted = f",{self.judged_by[stage]},"
        for line in whole.decode(errors="replace").splitlines():
            if wanted in line:
                value = float(line.rpartition(",")[2])
                self.best[stage] = max(value, self.best.get(stage, value))


def tail(file: Path) -> str:
    """The last lines of a text file; empty if it is not there."""
    if not file.exists():
        return ""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        return opened.read().decode(errors="replace")


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
