"""`report.html` of several runs: arms with intervals over seeds, what they cost, and what mattered."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from smalldata_vit.reports import mattered, page, searched, sweep_failures, sweep_plots, sweep_tables
from smalldata_vit.reports.arms import Arm, Namer, arms_of, baseline_of
from smalldata_vit.reports.records import Run, described, find_runs, first_number, powers
from smalldata_vit.reports.run_page import REPORT, put
from smalldata_vit.reports.searched import Search
from smalldata_vit.reports.sweep_tables import Row

MOST_ROWS = 60
"""Arms or runs that are shown before the rest is folded away."""


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
) -> Path:
    """Write report.html, arms.csv, arms.md and jobs.csv of these runs into a folder; returns the page's path.

    Arguments:
        baseline: words that only the baseline's label has, or its whole label; None: chosen by `baseline_of`.
        metric: number to compare by; None: the first of `records.FIRST` that most runs have.
        named: which arm a run belongs to, where its settings do not say it.
    """
    if not runs:
        raise ValueError(f"{folder} holds no run: no folder in it has a results.json")
    search = searched.search_of(folder)
    name = metric or (first_number(runs) if search is None else searched.compared_by(search))
    arms = arms_of(runs, named)
    alone = search is not None and baseline is None  # the trials of a search have no baseline of their own
    chosen = None if alone else baseline_of(arms, baseline, (name or "").replace("test/", "val/", 1))
    folder.mkdir(parents=True, exist_ok=True)
    rows = sweep_tables.rows_of(arms, name or "", chosen)
    places = [os.path.relpath(run.folder, folder) for run in runs]
    put(folder / REPORT, whole_page(runs, places, folder, rows, name, chosen, search))
    put(folder / "jobs.csv", sweep_tables.jobs_csv(runs, places))
    put(folder / "arms.csv", sweep_tables.arms_csv(rows, name or ""))
    put(folder / "arms.md", sweep_tables.as_markdown(rows, name or "", remark(arms, chosen)))
    return folder / REPORT


def remark(arms: Sequence[Arm], baseline: str | None) -> str:
    """What the columns mean."""
    said = "Mean ± 95 % interval of Student’s t over seeds; time and cost are means of all stages together."
    if baseline is None:
        return said
    count = len({arm.name for arm in arms if arm.label != baseline})
    many = f", not corrected for {count} comparisons" if count > 1 else ""
    return f"{said} Baseline: {baseline}; differences are paired over seeds, p is that of the paired t-test{many}."


def whole_page(
    runs: Sequence[Run],
    places: Sequence[str],
    folder: Path,
    rows: Sequence[Row],
    name: str | None,
    baseline: str | None,
    search: Search | None,
) -> str:
    """The page as text."""
    arms = [row.arm for row in rows]
    sections = {"Arms": "", "Search": "" if search is None else searched.section(search), "Learning": "", "Compute": ""}
    if name is not None:
        colours = sweep_plots.colours_of(arms, name, baseline)
        told = page.paragraph(remark(arms, baseline), "note")
        drawn = page.panels(sweep_plots.intervals(arms, name, baseline, colours))
        sections["Arms"] = table_of(rows, name, baseline) + told + drawn if search is None else ""
        learning = sweep_plots.over_labels(arms, name, colours) + sweep_plots.over_epochs(arms, colours)
        sections["Learning"] = page.panels(learning)
        sections["Compute"] = page.panels(sweep_plots.against_cost(arms, name, colours))
        sections["What mattered"] = "" if search is not None else what_mattered(runs, name)
    sections |= {"Failures": sweep_failures.failures(runs, places, MOST_ROWS), "Runs": runs_table(runs, places, name)}
    return page.page(folder.name, above(runs, folder), answer(rows, name, baseline), facts(runs), sections)


def above(runs: Sequence[Run], folder: Path) -> str:
    """The line above the answer."""
    missing = sum(run.status != "finished" for run in runs)
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
    counts = {status: sum(run.status == status for run in runs) for status in ("finished", "failed", "interrupted")}
    said = [(status, str(count)) for status, count in counts.items() if count]
    seeds = sorted({run.seed for run in runs})
    shown = ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
    said += [("seeds", shown), ("training time, all runs", described(sum(run.total("seconds") for run in runs)))]
    return page.facts([*said, ("training cost, all runs", powers(sum(run.total("flops") for run in runs)) + "FLOP")])


def table_of(rows: Sequence[Row], name: str, baseline: str | None) -> str:
    """The arms; the baseline stands out, and columns without a number are left away."""
    head, cells = sweep_tables.head(name), [sweep_tables.cells(row) for row in rows]
    kept = [
        place for place in range(len(head)) if place == 0 or any(row[place] != sweep_tables.NOTHING for row in cells)
    ]
    if len({row.arm.labels for row in rows}) == 1:
        kept.remove(1)
    short = [[row[place] for place in kept] for row in cells]
    marked = [number for number, row in enumerate(rows) if row.arm.label == baseline]
    whole = folded([head[place] for place in kept], short, marked)
    if len({row.arm.labels for row in rows}) == 1:
        return whole
    columns, crossed = sweep_tables.crossed(rows)
    few = [number for number, row in enumerate(crossed) if row[0] == baseline]
    over = page.paragraph(f"{name} in %, by labels per class", "note")
    return over + folded(["arm", *columns], crossed, few) + page.details("seeds, differences, time and cost", whole)


def folded(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[int] = (), words: int = 1) -> str:
    """A table whose rows beyond the first are asked for."""
    shown = page.table(head, rows[:MOST_ROWS], words, marked)
    rest = [number - MOST_ROWS for number in marked if number >= MOST_ROWS]
    more = page.details(f"{len(rows) - MOST_ROWS} more", page.table(head, rows[MOST_ROWS:], words, rest))
    return shown + (more if len(rows) > MOST_ROWS else "")


def what_mattered(runs: Sequence[Run], name: str) -> str:
    """Shares of the spread, and the number over each key."""
    found, drawn = mattered.shares(runs, name)
    if not found:
        return ""
    lead = "The share of the variance over all finished runs that lies between the values of a key (η²)."
    rows = [[key, f"{100 * share:.0f}"] for key, share in found.items()]
    return page.paragraph(lead, "note") + page.table(["key", "% explained"], rows) + page.panels(drawn)


def runs_table(runs: Sequence[Run], places: Sequence[str], name: str | None) -> str:
    """Every run with its number, and a link to its own report where it has one."""
    links: Mapping[str, str] = {
        p: f"{p}/{REPORT}" for p, r in zip(places, runs, strict=True) if (r.folder / REPORT).exists()
    }
    rows = []
    for run, place in zip(runs, places, strict=True):
        value = run.number(name) if name is not None else None
        number = sweep_tables.NOTHING if value is None else f"{100 * value:.2f}"
        rows.append([place, run.status, str(run.seed), number, described(run.total("seconds"))])
    head = ["run", "status", "seed", f"{name}, %", "time"]
    shown = page.table(head, rows[:MOST_ROWS], 2, links=links)
    more = page.table(head, rows[MOST_ROWS:], 2, links=links)
    return shown + (page.details(f"{len(rows) - MOST_ROWS} more", more) if len(rows) > MOST_ROWS else "")
