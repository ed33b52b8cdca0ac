"""Which hyper-parameters mattered in a grid: how much of the spread each explains, and the number over its values."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from smalldata_vit.reports.arms import LABELS, Namer
from smalldata_vit.reports.drawing import SERIES, Panel, axes, finish, percent, svg_of
from smalldata_vit.reports.records import Run
from smalldata_vit.reports.sweep_plots import logarithmic

ARM, COUNT = "arm", "labels per class"
MOST_LEVELS = 40
"""Values of a key beyond which it is no grid."""


def varied(runs: Sequence[Run], named: Namer | None = None) -> dict[str, list[str]]:
    """The keys that were typed with more than one value, each with every run's value (`as it is` where not typed).

    Where arms have names, words belong to an arm and not to a key: then the keys are the arm and the number of labels.
    """
    typed = (
        [{ARM: named(run), COUNT: str(run.labels or "all")} for run in runs]
        if named is not None
        else [dict(word.lstrip("+").split("=", 1) for word in run.words) for run in runs]
    )
    names = dict.fromkeys(name for words in typed for name in words)
    values = {name: [words.get(name, "as it is") for words in typed] for name in names}
    return {name: each for name, each in values.items() if 1 < len(set(each)) <= MOST_LEVELS}


def explained(levels: Sequence[str], values: Sequence[float]) -> float | None:
    """η²: the share of the values' variance that lies between the means of the levels; None where there is none."""
    mean, whole = statistics.fmean(values), sum((v - statistics.fmean(values)) ** 2 for v in values)
    if whole == 0:
        return None
    between = 0.0
    for members in by_level(levels, values).values():
        between += len(members) * (statistics.fmean(members) - mean) ** 2
    return between / whole


def by_level(levels: Sequence[str], values: Sequence[float]) -> dict[str, list[float]]:
    """The values of each level, numbers in their order, words in the order in which they came."""
    groups: dict[str, list[float]] = {}
    for level, value in zip(levels, values, strict=True):
        groups.setdefault(level, []).append(value)
    known = {level: number for level in groups if (number := as_number(level)) is not None}
    return dict(sorted(groups.items(), key=lambda pair: known[pair[0]])) if len(known) == len(groups) else groups


def as_number(text: str) -> float | None:
    """A typed value as a number; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def shares(runs: Sequence[Run], name: str, named: Namer | None = None) -> tuple[dict[str, float], list[Panel]]:
    """For each varied key the share of the spread that it explains, largest first, and a plot of each."""
    there = [run for run in runs if run.status == "finished" and run.number(name) is not None]
    values = [run.number(name) or 0.0 for run in there]
    found: dict[str, float] = {}
    drawn: dict[str, Panel] = {}
    for names, levels in together(varied(there, named)):
        share = explained(levels, values)
        if share is not None and len(set(levels)) < len(levels):  # a value a run explains everything
            found[called(names)] = share
            if names[0] not in (ARM, COUNT) and LABELS not in names[0]:
                drawn[called(names)] = slice_of(names[0], levels, values, name)
    found = dict(sorted(found.items(), key=lambda pair: -pair[1]))
    return found, [drawn[key] for key in found if key in drawn]


def together(keys: Mapping[str, list[str]]) -> list[tuple[list[str], list[str]]]:
    """Keys with every run's value; those that only ever changed together are one, for nothing tells them apart."""
    found: dict[tuple[int, ...], tuple[list[str], list[str]]] = {}
    for key, levels in keys.items():
        numbers: dict[str, int] = {}
        same = tuple(numbers.setdefault(level, len(numbers)) for level in levels)
        found.setdefault(same, ([], levels))[0].append(key)
    return list(found.values())


def called(names: Sequence[str]) -> str:
    """Keys that changed together by the first of them."""
    more = len(names) - 1
    if not more:
        return names[0]
    return f"{names[0]}, and with it {names[1] if more == 1 else f'{more} others'}"


def slice_of(key: str, levels: Sequence[str], values: Sequence[float], name: str) -> Panel:
    """Every run as a dot over the value of one key, and the means of the values."""
    groups = by_level(levels, values)
    numbers = [as_number(level) for level in groups]
    known = [number for number in numbers if number is not None]
    in_words = len(known) < len(numbers)
    with axes() as drawn:
        places: Sequence[float] = range(len(groups)) if in_words else known
        if not in_words and min(known) > 0 and max(known) > 8 * min(known):
            drawn.set_xscale("log")
        scatter(drawn, dict(zip(places, groups.values(), strict=True)))
        finish(drawn, key, percent)
        logarithmic(drawn.xaxis, drawn.get_xscale())
        if in_words:
            drawn.set_xticks(list(places), [level if len(level) < 16 else level[:15] + "…" for level in groups])
            drawn.set_xlim(-0.5, len(groups) - 0.5)
        return Panel(f"{key}", svg_of(drawn, f"{name} over {key}"))


def scatter(drawn: Any, groups: Mapping[float, Sequence[float]]) -> None:
    """Values as dots, their means as a line."""
    points = [(place, value) for place, members in groups.items() for value in members]
    drawn.plot(*zip(*points, strict=True), "o", color=SERIES[0], markersize=4, alpha=0.35, markeredgewidth=0)
    means = [statistics.fmean(members) for members in groups.values()]
    drawn.plot(list(groups), means, "-", color=SERIES[0])
