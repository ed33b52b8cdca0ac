"""The published numbers, and ours beside them: from results/published.csv and from finished runs."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import smalldata_vit

FILE = Path(smalldata_vit.__file__).parents[2] / "results" / "published.csv"
FLAVOURS = ("fixed", "faithful")


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    Arguments:
        experiment, dataset, stage: whose final number is comparable: options, as a command names them.
        settings: of that stage, key to value as text, beside what the experiment has by itself.
        metric: the name of our number.
        percent: the paper's.
        source: paper and table.
    """

    experiment: str
    dataset: str
    stage: str
    settings: Mapping[str, str]
    metric: str
    percent: float
    source: str


@dataclass(frozen=True)
class Run:
    """What of a finished run is compared: its flat config and its summary."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]


def read(file: Path = FILE) -> list[Published]:
    """The rows of the file; ValueError naming the line of one that cannot be read."""
    rows = []
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            try:
                settings = dict(word.split("=", 1) for word in row["settings"].split())
                where = row["experiment"], row["dataset"], row["stage"]
                rows.append(Published(*where, settings, row["metric"], float(row["percent"]), row["source"]))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{file}: {row} is no published number: {error}") from error
    return rows


def is_of(run: Run, row: Published) -> bool:
    """Whether a run's number is to be compared with a published one."""
    wanted = {"experiment": row.experiment, "dataset": row.dataset, "stage": row.stage, **row.settings}
    return row.metric in run.summary and all(same(run.config.get(key), value) for key, value in wanted.items())


def same(value: Any, text: str) -> bool:
    """Whether a value of a config is what a text says: 100 and 100.0 are."""
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text


def table(rows: Sequence[Published], runs: Iterable[Run]) -> str:
    """A Markdown table: the published numbers in %, ours by flavour as mean ± standard deviation over n runs."""
    found = list(runs)
    lines = [
        "| experiment | on | published, % | ours, fixed | ours, faithful | source |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        mine = [run for run in found if is_of(run, row)]
        told = (ours([run.summary[row.metric] for run in mine if run.config.get("flavour") == f]) for f in FLAVOURS)
        on = " ".join([row.dataset, *(f"{k}={v}" for k, v in row.settings.items()), *kind(row)])
        lines.append(f"| {row.experiment} | {on} | {row.percent:g} | {' | '.join(told)} | {row.source} |")
    return "\n".join(lines)


def kind(row: Published) -> list[str]:
    """What is said of a number that is not the accuracy after fine-tuning."""
    stage = [] if row.stage in ("finetune", "evaluate") else [row.stage]
    return stage if row.metric == "test/accuracy" else [*stage, row.metric.removeprefix("test/").replace("_", " ")]


def ours(values: Sequence[float]) -> str:
    """Fractions as a mean in %, with the spread where there are several."""
    if not values:
        return "–"
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread} ({len(values)})"
