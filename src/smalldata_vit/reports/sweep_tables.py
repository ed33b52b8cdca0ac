"""The tables of a sweep, as cells for the page and as CSV and Markdown files for everything else."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from smalldata_vit.reports.arms import Arm, against
from smalldata_vit.reports.intervals import Interval, Paired
from smalldata_vit.reports.records import Run, described, powers

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """An arm with its numbers.

    Arguments:
        name: of the number by which arms are compared, and `checked` that on validation images (None: there is none).
    """

    arm: Arm
    mean: Interval | None
    checked: Interval | None
    paired: Paired | None


def rows_of(arms: Sequence[Arm], name: str, baseline: str | None) -> list[Row]:
    """A row an arm."""
    checked = name.replace("test/", "val/", 1)
    return [
        Row(arm, arm.mean(name), arm.mean(checked) if checked != name else None, against(arm, arms, baseline, name))
        for arm in arms
    ]


def points(found: Interval | None, sign: bool = False) -> str:
    """A fraction in percent with its interval."""
    if found is None:
        return NOTHING
    mean = f"{100 * found.mean:+.2f}" if sign else f"{100 * found.mean:.2f}"
    return mean.replace("-", "−") + ("" if found.half is None else f"\u00a0±\u00a0{100 * found.half:.2f}")


def chance(p: float | None) -> str:
    """A p as text."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


HEAD = (
    "arm",
    "labels per class",
    "seeds",
    "failed",
    "validation, %",
    "{name}, %",
    "less the baseline",
    "p",
    "time",
    "cost",
)


def cells(row: Row) -> list[str]:
    """A row for people."""
    seconds, flops = row.arm.cost("seconds"), row.arm.cost("flops")
    failed = sum(run.status != "finished" for run in row.arm.runs)
    return [
        row.arm.label,
        "all" if row.arm.labels is None else str(row.arm.labels),
        str(len(row.arm.finished)),
        str(failed) if failed else NOTHING,
        points(row.checked),
        points(row.mean),
        points(None if row.paired is None else row.paired.difference, sign=True),
        chance(None if row.paired is None else row.paired.p),
        NOTHING if seconds is None else described(seconds.mean),
        NOTHING if flops is None else powers(flops.mean) + "FLOP",
    ]


def crossed(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Arms in rows, labels per class in columns: the names of the columns, and the cells with the arm first."""
    counts = list(dict.fromkeys(row.arm.labels for row in sorted(rows, key=lambda row: row.arm.many_labels)))
    means = {(row.arm.label, row.arm.labels): points(row.mean) for row in rows}
    labels = dict.fromkeys(row.arm.label for row in rows)
    body = [[label, *(means.get((label, count), NOTHING) for count in counts)] for label in labels]
    return ["all" if count is None else str(count) for count in counts], body


def differences(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Arms in rows, labels per class in columns: what each has more than the baseline, with p; as in `crossed`."""
    told = [row for row in rows if row.paired is not None]
    counts = list(dict.fromkeys(row.arm.labels for row in sorted(told, key=lambda row: row.arm.many_labels)))
    found = {(row.arm.label, row.arm.labels): row.paired for row in told}

    def cell(paired: Paired | None) -> str:
        if paired is None:
            return NOTHING
        gap, p = points(paired.difference, sign=True), chance(paired.p)
        return gap if p == NOTHING else f"{gap}, p\u00a0{p if p.startswith('<') else '= ' + p}"

    body = [
        [label, *(cell(found.get((label, count))) for count in counts)]
        for label in dict.fromkeys(row.arm.label for row in told)
    ]
    return ["all" if count is None else str(count) for count in counts], body


def head(name: str) -> list[str]:
    """Names of the columns of `cells`."""
    return [column.format(name=name) for column in HEAD]


def as_markdown(rows: Sequence[Row], name: str, remark: str) -> str:
    """The arms for a README."""
    lines = ["| " + " | ".join(head(name)) + " |", "| --- |" + " ---: |" * (len(HEAD) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", remark]) + "\n"


def arms_csv(rows: Sequence[Row], name: str) -> str:
    """The arms for scripts: fractions, seconds and FLOPs unrounded, nothing where there is no number."""
    names = (
        "arm", "labels_per_class", "seeds", "failed", "metric", "mean", "half_interval_95", "val_mean",
        "val_half_interval_95", "difference", "difference_half_interval_95", "p", "seconds", "flops",
    )  # fmt: skip
    body = []
    for row in rows:
        seconds, flops = row.arm.cost("seconds"), row.arm.cost("flops")
        difference = None if row.paired is None else row.paired.difference
        failed = sum(run.status != "finished" for run in row.arm.runs)
        body.append([
            row.arm.label, row.arm.labels, len(row.arm.finished), failed, name, *both(row.mean), *both(row.checked),
            *both(difference), None if row.paired is None else row.paired.p, *both(seconds)[:1], *both(flops)[:1],
        ])  # fmt: skip
    return text_of([names, *body])


def both(found: Interval | None) -> list[float | None]:
    """Mean and half interval."""
    return [None, None] if found is None else [found.mean, found.half]


def jobs_csv(runs: Sequence[Run], folders: Sequence[str]) -> str:
    """Every run with all numbers of its last stage: fractions as results.json has them."""
    names = sorted({name for run in runs for name in run.last.get("metrics", {}) if "per_class" not in name})
    head_row = ["folder", "status", "seed", "words", "labels_per_class", "seconds", "flops", *names]
    body = [
        [folder, run.status, run.seed, " ".join(run.words), run.labels, run.total("seconds"), run.total("flops")]
        + [run.last.get("metrics", {}).get(name) for name in names]
        for folder, run in zip(folders, runs, strict=True)
    ]
    return text_of([head_row, *body])


def text_of(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
