"""Plots of a sweep over the number of labels per class: accuracy, and what each arm has more than the baseline."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from smalldata_vit.reports.arms import Arm
from smalldata_vit.reports.drawing import MUTED, Panel, axes, finish, percent, svg_of
from smalldata_vit.reports.intervals import Interval
from smalldata_vit.reports.sweep_plots import keys, no_further_than_whole
from smalldata_vit.reports.sweep_tables import Row

APART = 0.07
"""Between arms at the same number of labels, in numbers of labels: their intervals would hide each other."""
Found = Mapping[int | None, Interval | None]
"""A mean with its interval for each number of labels; None: all of them."""


def over_labels(arms: Sequence[Arm], name: str, colours: Mapping[str, str]) -> list[Panel]:
    """Learning curves: accuracy over the number of labels per class, a line an arm with intervals."""
    counts = counts_of(arms)
    if len(counts) < 2:
        return []
    title = f"{name} in % over labels per class"
    with axes_over(counts) as drawn:
        labels = list(dict.fromkeys(arm.label for arm in arms))
        for place, label in enumerate(labels):
            found = {arm.labels: arm.mean(name) for arm in arms if arm.label == label}
            line(drawn, counts, found, colours[label], APART * (place - (len(labels) - 1) / 2))
        means = [mean.mean for arm in arms if (mean := arm.mean(name)) is not None]
        drawn.set_ylim(no_further_than_whole(drawn.get_ylim(), means))
        return [Panel(title, svg_of(drawn, title), keys(arms, colours))]


def gains(rows: Sequence[Row], colours: Mapping[str, str]) -> list[Panel]:
    """Points more than the baseline over the number of labels, with intervals of the paired difference."""
    told = [row for row in rows if row.paired is not None]
    counts = counts_of([row.arm for row in told])
    if len(counts) < 2:
        return []
    title = "Points more than the baseline, paired"
    with axes_over(counts) as drawn:
        drawn.axhline(0, color=MUTED, linewidth=1, linestyle="--")
        labels = list(dict.fromkeys(row.arm.label for row in told))
        for place, label in enumerate(labels):
            pairs = {row.arm.labels: row.paired for row in told if row.arm.label == label}
            found = {count: None if pair is None else pair.difference for count, pair in pairs.items()}
            line(drawn, counts, found, colours[label], APART * (place - (len(labels) - 1) / 2))
        return [Panel(title, svg_of(drawn, title), keys([row.arm for row in told], colours))]


def counts_of(arms: Sequence[Arm]) -> list[int | None]:
    """The different numbers of labels, all of them last."""
    return list(dict.fromkeys(arm.labels for arm in sorted(arms, key=lambda arm: arm.many_labels)))


@contextmanager
def axes_over(counts: Sequence[int | None]) -> Iterator[Any]:
    """Axes with a place for each number of labels."""
    with axes() as drawn:
        finish(drawn, "labels per class", percent)
        drawn.set_xticks(range(len(counts)), ["all" if count is None else str(count) for count in counts])
        drawn.set_xlim(-0.3, len(counts) - 0.7)
        yield drawn


def line(drawn: Any, counts: Sequence[int | None], found: Found, colour: str, aside: float) -> None:
    """An arm's means, joined where no number of labels between them is missing, with their intervals."""
    there = [(place, mean) for place, count in enumerate(counts) if (mean := found.get(count)) is not None]
    for (left, one), (right, other) in pairwise(there):
        if right == left + 1:
            drawn.plot([left + aside, right + aside], [one.mean, other.mean], color=colour)
    places, errors = [place + aside for place, _ in there], [mean.half or 0.0 for _, mean in there]
    drawn.errorbar(
        places, [mean.mean for _, mean in there], yerr=errors, fmt="o", color=colour,
        markersize=5, elinewidth=1, markeredgewidth=0,
    )  # fmt: skip
