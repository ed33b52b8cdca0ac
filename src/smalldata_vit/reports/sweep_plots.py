"""Plots of a sweep: arms with their intervals, accuracy against compute, and over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

from smalldata_vit.reports.arms import Arm
from smalldata_vit.reports.curves import Curve, mean_curve, thinned, validation_curve
from smalldata_vit.reports.drawing import (
    INK,
    MUTED,
    RULE,
    SERIES,
    Key,
    Panel,
    axes,
    few_ticks,
    finish,
    percent,
    short,
    svg_of,
)  # fmt: skip

MOST_ARMS = 30
"""In the plot of intervals; a page is no longer than that."""
ROW = 24
"""CSS pixels of an arm."""
LETTER = 5.9
"""CSS pixels of a letter, about."""
LONGEST = 52
"""Letters of an arm's name beside the plot."""


def colours_of(arms: Sequence[Arm], name: str, baseline: str | None) -> dict[str, str]:
    """A colour for each of the best arms and for the baseline, by label; the others stay grey."""
    best: dict[str, float] = {}
    for arm in arms:
        mean = arm.mean(name)
        best[arm.label] = max(best.get(arm.label, 0.0), 0.0 if mean is None else mean.mean)
    order = sorted(best, key=lambda label: -best[label])
    if baseline in order[len(SERIES) :]:
        order.remove(baseline)
        order.insert(len(SERIES) - 1, baseline)
    return {label: SERIES[place] if place < len(SERIES) else MUTED for place, label in enumerate(order)}


def keys(arms: Sequence[Arm], colours: Mapping[str, str]) -> list[Key]:
    """Legend entries of the arms that have a colour of their own, where there are several arms in all."""
    labels = dict.fromkeys(arm.label for arm in arms)
    named = [Key(label, colours[label]) for label in labels if colours[label] != MUTED]
    return named if len(colours) > 1 else []


def no_further_than_whole(limits: tuple[float, float], means: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis of fractions: few seeds have intervals that reach beyond 0 and 1, where nothing can be."""
    if not means or min(means) < 0 or max(means) > 1:
        return limits
    return max(limits[0], 0.0), min(limits[1], 1.005)


def intervals(arms: Sequence[Arm], name: str, baseline: str | None, colours: Mapping[str, str]) -> list[Panel]:
    """A row an arm (where it has most labels): every seed, the mean with its interval; a line where the baseline is."""
    chosen = with_most_labels(arms)
    there = [(arm, mean) for arm in chosen if (mean := arm.mean(name)) is not None]
    there = sorted(there, key=lambda pair: -pair[1].mean)[:MOST_ARMS]
    if len(there) < 2:
        return []
    title = f"{name}, %: each seed, mean and 95 % interval"
    alike = len({arm.labels for arm, _ in there}) == 1
    names = [cut(arm.label if alike else arm.name) for arm, _ in there]
    left = max(map(len, names)) * LETTER + 20
    with axes(1016, ROW * len(there) + 44, left=left) as drawn:
        for row, (arm, mean) in enumerate(there):
            values, colour = list(arm.by_seed(name).values()), colours[arm.label]
            drawn.plot(values, [row] * len(values), "|", color=colour, markersize=11, markeredgewidth=1.2)
            if mean.half is not None:
                drawn.plot([mean.mean - mean.half, mean.mean + mean.half], [row, row], color=colour, linewidth=2.4)
            drawn.plot([mean.mean], [row], "o", color=colour, markersize=7, markeredgewidth=0)
        for mean in [mean for arm, mean in there if arm.label == baseline][:1]:
            drawn.axvline(mean.mean, color=MUTED, linewidth=1, linestyle="--")
        drawn.set_ylim(len(there) - 0.5, -0.5)
        drawn.set_yticks(range(len(there)), names, color=INK)
        drawn.grid(axis="y", visible=False)
        drawn.grid(axis="x", color=RULE, linewidth=1)
        drawn.set_xlim(no_further_than_whole(drawn.get_xlim(), [mean.mean for _, mean in there]))
        few_ticks(drawn.xaxis, 8, percent)
        note = ", ".join(
            filter(None, [labels_of(chosen, arms), f"dashed: the baseline, {baseline}" if baseline else ""])
        )
        return [Panel(title, svg_of(drawn, title), note=note, wide=True)]


def with_most_labels(arms: Sequence[Arm]) -> list[Arm]:
    """Of the arms with the same label the one that may read most labels."""
    labels = dict.fromkeys(arm.label for arm in arms)
    return [max((arm for arm in arms if arm.label == label), key=lambda arm: arm.many_labels) for label in labels]


def labels_of(chosen: Sequence[Arm], arms: Sequence[Arm]) -> str:
    """How many labels the chosen arms may read, where others may read another number; empty where they differ."""
    counts = {arm.labels for arm in chosen}
    if len(counts) != 1 or len({arm.labels for arm in arms}) == 1:
        return ""
    count = counts.pop()
    return "all labels" if count is None else f"{count} label{'s' if count > 1 else ''} per class"


def cut(name: str) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def against_cost(arms: Sequence[Arm], name: str, colours: Mapping[str, str]) -> list[Panel]:
    """Accuracy over FLOPs, over seconds and, where counters told it, over energy, of all stages together."""
    return [
        panel
        for cost, words in (("flops", "FLOPs"), ("seconds", "seconds"), ("joules", "joules"))
        for panel in against_one(arms, name, cost, words, colours)
    ]


def against_one(arms: Sequence[Arm], name: str, cost: str, words: str, colours: Mapping[str, str]) -> list[Panel]:
    """One of them, means with intervals."""
    points = [(arm, arm.cost(cost), arm.mean(name)) for arm in with_most_labels(arms)]
    known = [(arm, spent, mean) for arm, spent, mean in points if spent and mean and spent.mean > 0]
    if len(known) < 2:
        return []
    title, spread = f"{name} in % over {words}", [spent.mean for _, spent, _ in known]
    with axes() as drawn:
        if max(spread) > 8 * min(spread):
            drawn.set_xscale("log")
        for arm, spent, mean in known:
            drawn.errorbar(
                spent.mean, mean.mean, xerr=spent.half, yerr=mean.half, fmt="o", color=colours[arm.label],
                markersize=5, elinewidth=1, markeredgewidth=0,
            )  # fmt: skip
        finish(drawn, words, percent)
        drawn.margins(x=0.08)
        drawn.set_ylim(no_further_than_whole(drawn.get_ylim(), [mean.mean for _, _, mean in known]))
        drawn.set_xlim(left=max(drawn.get_xlim()[0], 0.0))  # few seeds have intervals that reach below it
        logarithmic(drawn.xaxis, drawn.get_xscale())
        shown = [arm for arm, _, _ in known]
        return [Panel(title, svg_of(drawn, title), keys(shown, colours), labels_of(shown, arms))]


def logarithmic(axis: Any, scale: str) -> None:
    """Few and plain ticks where an axis is logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if scale == "log":
        low, high = axis.axes.get_xlim()
        steps = (1.0,) if high > 1000 * low else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=steps, numticks=6))
        axis.set_major_formatter(FuncFormatter(short))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def over_epochs(arms: Sequence[Arm], colours: Mapping[str, str]) -> list[Panel]:
    """Validation numbers over the epochs of each stage, a line an arm (mean over seeds), where it has most labels."""
    chosen = with_most_labels(arms)
    stages = dict.fromkeys(stage for arm in chosen for run in arm.finished for stage in run.stages)
    drawn = []
    for stage in stages:
        for name in ("val/accuracy", "val/knn_accuracy"):
            found = []
            for arm in chosen:
                curves = [validation_curve(run.stage_folder(stage), name) for run in arm.finished]
                mean = thinned(mean_curve([curve for curve in curves if len(curve) > 1]))
                found += [(arm, mean)] if len(mean) > 1 else []
            if found:
                note = labels_of([arm for arm, _ in found], arms) if name == "val/accuracy" else ""
                drawn.append(lines_of_arms(f"{stage}: {name}, %", found, colours, note))
    return drawn


def lines_of_arms(title: str, found: Sequence[tuple[Arm, Curve]], colours: Mapping[str, str], note: str) -> Panel:
    """A line an arm in the arm's colour, those without one behind the others."""
    with axes() as drawn:
        for arm, curve in sorted(found, key=lambda pair: colours[pair[0].label] != MUTED):
            grey = colours[arm.label] == MUTED
            drawn.plot(
                curve.epoch, curve.value, color=RULE if grey else colours[arm.label], linewidth=1 if grey else 1.6
            )
        finish(drawn, "epoch", percent)
        return Panel(title, svg_of(drawn, title), keys([arm for arm, _ in found], colours), note)
