"""The tables of a sweep's page: arms by the number of labels, arms with all that is known of them, every run."""

from collections.abc import Mapping, Sequence

from smalldata_vit.reports import page, sweep_tables
from smalldata_vit.reports.records import Run, described
from smalldata_vit.reports.run_page import REPORT
from smalldata_vit.reports.sweep_tables import Row

MOST_ROWS = 60
"""Arms or runs that are shown before the rest is folded away."""

ALL = "seeds, validation, time and cost of every arm"


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
    return over + folded(["arm", *columns], crossed, few) + gains(rows, baseline) + page.details(ALL, whole)


def gains(rows: Sequence[Row], baseline: str | None) -> str:
    """What every arm has more than the baseline; empty where nothing is compared."""
    columns, body = sweep_tables.differences(rows)
    lead = page.paragraph(f"points more than {baseline}, paired over seeds", "note")
    return lead + folded(["arm", *columns], body) if body else ""


def folded(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[int] = (), words: int = 1) -> str:
    """A table whose rows beyond the first are asked for."""
    shown = page.table(head, rows[:MOST_ROWS], words, marked)
    rest = [number - MOST_ROWS for number in marked if number >= MOST_ROWS]
    more = page.details(f"{len(rows) - MOST_ROWS} more", page.table(head, rows[MOST_ROWS:], words, rest))
    return shown + (more if len(rows) > MOST_ROWS else "")


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
