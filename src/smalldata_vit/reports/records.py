"""Finished and failed runs as a report needs them, read from their folders."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smalldata_vit.results import SCHEMA, read_json

RESULTS = "results.json"
JOB_LOG = "job.log"
OTHERS = ("seed", "output_dir", "name", "tags", "logger", "store")
"""Words that change nothing about what a run is."""
FIRST = (
    "test/accuracy",
    "test/linear_accuracy@all",
    "test/knn_accuracy",
    "val/accuracy",
    "val/linear_accuracy@all",
    "val/knn_accuracy",
)
"""Numbers by which a run is told, the first that it has."""


@dataclass(frozen=True)
class Run:
    """One output folder, or the results of one that are kept alone.

    Arguments:
        folder: of the run; of results kept alone their file, in which no other file is found.
    """

    folder: Path
    results: Mapping[str, Any]

    @property
    def status(self) -> str:
        """running, finished, failed or interrupted."""
        return str(self.results.get("status", "failed"))

    @property
    def kept_alone(self) -> bool:
        """Whether there are results alone, without curves, settings and pictures."""
        return self.folder.is_file()

    @property
    def seed(self) -> int:
        """0 where the run ended before it wrote one down."""
        return int(self.results.get("seed", 0))

    @property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        """What each stage left, in the order in which they ran."""
        return self.results.get("stages", {})

    @cached_property
    def words(self) -> list[str]:
        """What was typed, without what changes nothing about what the run is."""
        typed = shlex.split(self.results.get("command", ""))
        return [word for word in typed if "=" in word and word.split("=", 1)[0].lstrip("+") not in OTHERS]

    @property
    def last(self) -> Mapping[str, Any]:
        """The last stage that finished, empty if none did."""
        done = [stage for stage in self.stages.values() if stage.get("status") == "finished"]
        return done[-1] if done else {}

    def number(self, name: str) -> float | None:
        """A number of the last stage that has it."""
        for stage in reversed(list(self.stages.values())):
            value = stage.get("metrics", {}).get(name)
            if value is not None:
                return float(value)
        return None

    def total(self, name: str) -> float:
        """Of all finished stages together: seconds, flops, joules, images_seen."""
        return sum(float(stage.get(name) or 0) for stage in self.stages.values())

    def knows(self, name: str) -> bool:
        """Whether every stage that trained has such a number."""
        return all(stage.get(name) is not None for stage in self.stages.values() if stage.get("steps"))

    @property
    def labels(self) -> int | None:
        """Labels per class that the last stage may read; None: all, or a stage that reads none."""
        return self.last.get("labels_per_class") or None

    def stage_folder(self, stage: str) -> Path:
        """Where a stage left its files."""
        return self.folder / stage


def read_run(folder: Path) -> Run:
    """The run in a folder; ValueError if there is none, or its results.json has another schema."""
    file = folder / RESULTS
    if not file.exists():
        raise ValueError(f"{folder} holds no {RESULTS}: a report needs the output folder of a run, or one with several")
    results = read_json(file)
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise ValueError(
            f"{file} is of another schema than {SCHEMA}: it was written by another version of this package"
        )
    return Run(folder, results)


def find_runs(folder: Path) -> list[Run]:
    """The runs below a folder by name, those that ended before they wrote anything included; links are not followed.

    Where no folder is a run's, files that hold what a results.json does are runs, under whatever names they are kept;
    so is a single file. ValueError: there is no such folder, or that file is another one.
    """
    if not folder.exists():
        raise ValueError(
            f"there is no {folder}: a report needs folders of runs, or files that results.json was kept in"
        )
    if folder.is_file():
        if not _is_record(folder):
            raise ValueError(f"{folder} holds no results of a run in schema {SCHEMA}")
        return [read_run_of(folder)]
    found = []
    for place in _folders_with_runs(folder):
        lost = not (place / RESULTS).exists()
        found.append(Run(place, {"schema": SCHEMA, "status": "failed"}) if lost else read_run(place))
    return found or [read_run_of(file) for file in sorted(folder.rglob("*.json")) if _is_record(file)]


def read_run_of(file: Path) -> Run:
    """The run whose results a file keeps; the file stands for its folder."""
    return Run(file, read_json(file))


def _is_record(file: Path) -> bool:
    data = read_json(file) if file.suffix == ".json" else None
    return isinstance(data, dict) and data.get("schema") == SCHEMA and {"status", "stages", "command"} <= data.keys()


def _folders_with_runs(folder: Path) -> Iterator[Path]:
    for place, below, files in os.walk(folder):
        below.sort()
        if RESULTS in files or JOB_LOG in files:
            below.clear()
            yield Path(place)


def described(seconds: float) -> str:
    """A time in words: 48 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def powers(value: float) -> str:
    """A large number in words: 754 GFLOP is powers(754e9) + FLOP."""
    for limit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g} "


def first_number(runs: Sequence[Run]) -> str | None:
    """The name of the number by which these runs are told: that which most of them have, in the order of `FIRST`."""
    counts = {name: sum(run.number(name) is not None for run in runs) for name in FIRST}
    most = max(counts.values(), default=0)
    return next((name for name, count in counts.items() if count == most), None) if most else None


def spent(runs: Sequence[Run], name: str) -> float:
    """Seconds or flops of all stages, those that several runs share counted once."""
    made = {
        stage.get("key") or (run.folder, at): float(stage.get(name) or 0)
        for run in runs
        for at, stage in run.stages.items()
    }
    return sum(made.values())
