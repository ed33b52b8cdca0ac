"""Goals of tables with peers in them, C6 to C8: said beside the rows that they are about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smalldata_vit.bench.harness import SHARE, TIMES, Row, Table


@dataclass(frozen=True)
class Goal:
    """How one of our rows has to compare with others of its table.

    Arguments:
        name: C6 and so on.
        table: how the table's title begins.
        row: of ours.
        limit: of the ratio to each of the others.
        most: whether it is the most that is allowed of a share (of time, of memory), else the least of a rate.
        plain: whether the plain loop in float32 is meant, else the authors' code.
    """

    name: str
    table: str
    row: str
    limit: float
    most: bool = False
    plain: bool = False

    def said(self, other: str, value: float) -> str:
        """One verdict in words."""
        held = value <= self.limit if self.most else value >= self.limit
        form = f"{value:.2f} of" if self.most else f"{value:.2f} times"
        bound = "at most" if self.most else "at least"
        return f"{self.name}: {form} {other}, goal {bound} {self.limit:.2f}: {'met' if held else 'MISSED'}"


PLAIN = "plain torch + timm, float32"
GOALS = (
    Goal("C6", "step, IDMM", "ours, float32", 1.0),
    Goal("C6", "step, IDMM", "ours, bf16", 3.2),
    Goal("C6", "step, guided", "ours, float32", 1.0),
    Goal("C6", "step, guided", "ours, bf16", 3.2),
    Goal("C7", "host", "ours, float32", 0.7, most=True),
    Goal("C7", "host", "ours, float32", 0.85, most=True, plain=True),
    Goal("C8", "memory that steps of 64 ", "ours, float32", 0.75, most=True),
    Goal("C8", "memory that steps of 64 ", "ours, bf16", 0.45, most=True),
)


def judged(table: Table, goals: Sequence[Goal] = GOALS) -> Table:
    """The same table with a verdict in the notes of rows that have a goal; without peers some have none."""
    return replace(table, rows=[_judged(row, table.title, goals) for row in table.rows])


def _judged(row: Row, title: str, goals: Sequence[Goal]) -> Row:
    said = [row.note] if row.note else []
    for goal in goals:
        if title.startswith(goal.table) and row.name == goal.row:
            before = SHARE if goal.most else TIMES
            others = {key.removeprefix(before): number for key, number in row.more.items() if key.startswith(before)}
            chosen = {other: number for other, number in others.items() if (other == PLAIN) == goal.plain}
            said += [goal.said(other, number) for other, number in chosen.items()]
    return replace(row, note="; ".join(said))
