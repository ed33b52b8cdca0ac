"""`report.html` of several runs: arms with intervals over seeds, what they cost, and what mattered."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from smalldata_vit.reports import label_plots, mattered, page, searched, sweep_failures, sweep_plots, sweep_tables
from smalldata_vit.reports.arms import Arm, Namer, arms_of, baseline_of
from smalldata_vit.reports.records import Run, described, find_runs, first_number, powers, spent
from smalldata_vit.reports.run_page import REPORT, put
from smalldata_vit.reports.searched import Search
from smalldata_vit.reports.sweep_listing import MOST_ROWS, runs_table, table_of
from smalldata_vit.reports.sweep_tables import Row


def write_sweep_report(folder: Path, baseline: str | None = None, metric: str | None = None) -> Path:
    """Write the report of every run below a folder into it; returns the page's path.

    `baseline`: words of the arm that others are compared with. ValueError: there is no run, or no such arm.
    """
    return write_report(find_runs(folder), folder, baseline, metric)


def write_report(
    runs: Sequence[Run],
    folder: Path,
    baseline: str | None = None,
    metric: str | None = None,
    named: Namer | None = None,
    more: Mapping[str, str] | None = None,
) -> Path:
    """Write report.html, arms.csv, arms.md and jobs.csv of these runs into a folder; returns the page's path.

    Arguments:
        baseline: words that only the baseline's label has, or its whole label; None: chosen by `baseline_of`.
        metric: number to compare by; None: the first of `records.FIRST` that most runs have.
        named: which arm a run belongs to, where its settings do not say it.
        more: sections, by their headings, that belong to this comparison alone, as HTML.
    """
    if not runs:
        raise ValueError(f"{folder} holds no run: no folder in it has a results.json, and no file was kept of one")
    search = searched.search_of(folder)
    runs = runs if search is None else searched.told_of(runs, search)
    name = metric or (first_number(runs) if search is None else searched.compared_by(search))
    arms = arms_of(runs, named)
    alone = search is not None and baseline is None  # the trials of a search have no baseline of their own
    chosen = None if alone else baseline_of(arms, baseline, (name or "").replace("test/", "val/", 1))
    folder.mkdir(parents=True, exist_ok=True)
    rows = sweep_tables.rows_of(arms, name or "", chosen)
    places = [os.path.relpath(run.folder, folder) for run in runs]
    compared = Compared(runs, places, rows, name, chosen)
    sections = arms_and_curves(compared) if search is None else of_search(compared, search)
    sections |= {**(more or {}), "What mattered": "" if search else what_mattered(runs, name, named)}
    put(folder / REPORT, whole_page(compared, folder, sections))
    put(folder / "jobs.csv", sweep_tables.jobs_csv(runs, places))
    put(folder / "arms.csv", sweep_tables.arms_csv(rows, name or ""))
    put(folder / "arms.md", sweep_tables.as_markdown(rows, name or "", remark(arms, chosen)))
    return folder / REPORT


@dataclass(frozen=True)
class Compared:
    """Runs with what they are compared by.

    Arguments:
        places: of the runs, below the folder of the report.
        name: of the number; None where nothing has been judged.
        baseline: its label; None where there is none.
    """

    runs: Sequence[Run]
    places: Sequence[str]
    rows: Sequence[Row]
    name: str | None
    baseline: str | None


def remark(arms: Sequence[Arm], baseline: str | None) -> str:
    """What the columns mean."""
    said = "Mean ± 95 % interval of Student’s t over seeds; time and cost are means of all stages together."
    if baseline is None:
        return said
    count = len({arm.name for arm in arms if arm.label != baseline})
    many = f", not corrected for {count} comparisons" if count > 1 else ""
    return f"{said} Baseline: {baseline}; differences are paired over seeds, p is that of the paired t-test{many}."


def whole_page(compared: Compared, folder: Path, sections: Mapping[str, str]) -> str:
    """The page as text."""
    runs, places, name = compared.runs, compared.places, compared.name
    last = {"Failures": sweep_failures.failures(runs, places, MOST_ROWS), "Runs": runs_table(runs, places, name)}
    said = answer(compared.rows, name, compared.baseline)
    return page.page(folder.name, above(runs, folder), said, facts(runs), {**sections, **last})


def arms_and_curves(compared: Compared) -> dict[str, str]:
    """The sections of arms: tables and intervals, learning curves, compute."""
    rows, name, baseline = compared.rows, compared.name, compared.baseline
    if name is None:
        return {}
    arms = [row.arm for row in rows]
    colours = sweep_plots.colours_of(arms, name, baseline)
    told = page.paragraph(remark(arms, baseline), "note")
    drawn = page.panels(sweep_plots.intervals(arms, name, baseline, colours))
    learning = (
        label_plots.over_labels(arms, name, colours)
        + label_plots.gains(rows, colours)
        + sweep_plots.over_epochs(arms, colours)
    )
    return {
        "Arms": table_of(rows, name, baseline) + told + drawn,
        "Learning": page.panels(learning) + kept_alone(compared.runs),
        "Compute": page.panels(sweep_plots.against_cost(arms, name, colours)),
    }


def of_search(compared: Compared, search: Search) -> dict[str, str]:
    """The sections of a search: what it found; then curves and compute of its trials."""
    return {"Search": searched.section(search), **(arms_and_curves(compared) | {"Arms": ""})}


def kept_alone(runs: Sequence[Run]) -> str:
    """Which curves are missing because only results.json was kept of some runs."""
    count = sum(run.kept_alone for run in runs)
    if not count:
        return ""
    which = "Of all runs" if count == len(runs) else f"Of {count} of {len(runs)} runs"
    return page.paragraph(
        f"{which} results.json alone was kept: curves over epochs, settings and pictures are in their output folders, "
        "which are not here.",
        "note",
    )


def above(runs: Sequence[Run], folder: Path) -> str:
    """The line above the answer."""
    missing = sum(run.status not in ("finished", "pruned") for run in runs)
    state = f"{missing} of {len(runs)} not finished" if missing else "all finished"
    return (
        f'<div class="over"><b>{escape(folder.name)}</b><span>{len(runs)} runs</span><span>{escape(str(folder))}</span>'
        f'<span class="state {"bad" if missing else "good"}">{state}</span></div>'
    )


def answer(rows: Sequence[Row], name: str | None, baseline: str | None) -> str:
    """The best arm in one sentence of HTML; chosen on validation images where all arms have some."""
    judged = [row for row in rows if row.mean is not None]
    if not judged or name is None:
        return "No run has been judged yet."
    by_validation = all(row.checked is not None for row in judged)
    best = max(judged, key=lambda row: worth(row.checked if by_validation else row.mean))
    count = len(best.arm.finished)
    said = (
        f"<strong>{sweep_tables.points(best.mean)} %</strong> {escape(name.replace('/', ' '))}: {escape(best.arm.name)}"
    )
    labels = {row.arm.labels for row in judged}
    said += ", all labels" if best.arm.labels is None and len(labels) > 1 else ""
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    how = f" ({seeds}, best on validation images)" if by_validation and len(judged) > 1 else f" ({seeds})"
    if best.paired is None:
        return f"{said}{how}."
    gap = sweep_tables.points(best.paired.difference, sign=True)
    return f"{said}{how}, {gap} points against {escape(str(baseline))}."


def worth(found: object) -> float:
    """The mean of an interval."""
    return float(found.mean)  # type: ignore[attr-defined]


def facts(runs: Sequence[Run]) -> str:
    """What all of it cost."""
    known = ("finished", "pruned", "failed", "interrupted")
    counts = {status: sum(run.status == status for run in runs) for status in known}
    said = [(status, str(count)) for status, count in counts.items() if count]
    seconds, flops = spent(runs, "seconds"), spent(runs, "flops")
    seeds = sorted({run.seed for run in runs})
    shown = ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
    said += [("seed" if len(seeds) == 1 else "seeds", shown), ("training time, all runs", described(seconds))]
    return page.facts([*said, ("training cost, all runs", powers(flops) + "FLOP")])


def what_mattered(runs: Sequence[Run], name: str | None, named: Namer | None) -> str:
    """Shares of the spread, and the number over each key."""
    found, drawn = mattered.shares(runs, name, named) if name is not None else ({}, [])
    if not found:
        return ""
    lead = "The share of the variance over all finished runs that lies between the values of a key (η²)."
    rows = [[key, f"{100 * share:.0f}"] for key, share in found.items()]
    return page.paragraph(lead, "note") + page.table(["key", "% explained"], rows) + page.panels(drawn)
