"""A search in a report: its best trials, what mattered, every trial over each parameter, and all of them together."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smalldata_vit.reports import page
from smalldata_vit.reports.arms import brief_keys
from smalldata_vit.reports.drawing import INK, MUTED, RULE, SERIES, Panel, axes, finish, short, svg_of
from smalldata_vit.reports.records import Run
from smalldata_vit.reports.sweep_plots import logarithmic
from smalldata_vit.results import read_json

FILE = "search.json"
SCHEMA = 1
MOST_TRIALS = 30
"""In the table."""
LETTERS = 22
"""Of a parameter's name below its axis."""

Search = Mapping[str, Any]
Trial = Mapping[str, Any]


def search_of(folder: Path) -> Search | None:
    """What a search left in a folder; None if there was none, ValueError for another schema."""
    file = folder / FILE
    if not file.exists():
        return None
    search = read_json(file)
    if search.get("schema") != SCHEMA:
        raise ValueError(f"{file} has schema {search.get('schema')!r}; this version reads schema {SCHEMA}")
    return search


def compared_by(search: Search) -> str | None:
    """The first objective that is a number of validation images, without its stage; a search looks at no other."""
    names = [re.sub(r"^\w+\.", "", goal["name"]) for goal in search["objectives"]]
    return next((name for name in names if name.startswith("val/")), None)


def told_of(runs: Sequence[Run], search: Search) -> list[Run]:
    """The runs of a search's trials; those that it pruned say so, and not that they were interrupted."""
    pruned = {
        Path(trial["folder"]).name for trial in search["trials"] if trial["state"] == "pruned" and trial["folder"]
    }
    return [
        replace(run, results={**run.results, "status": "pruned"}) if run.folder.name in pruned else run for run in runs
    ]


def section(search: Search) -> str:
    """Everything about a search as HTML."""
    goals = search["objectives"]
    done = [trial for trial in search["trials"] if trial["state"] == "complete"]
    counts = {state: sum(t["state"] == state for t in search["trials"]) for state in ("complete", "pruned", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    asked = page.paragraph(f"{len(search['trials'])} trials of {search['trials_asked']} that were asked for: {told}.")
    best = "".join(page.code(one["command"]) for one in search["best"])
    drawn = [panel for number, goal in enumerate(goals) for panel in over_parameters(search, done, number, goal)]
    if len(goals) == 2 and len(done) > 1:
        drawn.insert(0, trade_off(goals, done, [one["number"] for one in search["best"]]))
    return asked + best + table(goals, done) + importances(search) + page.panels([*parallel(search, done), *drawn])


def worth(goal: Mapping[str, Any], trial: Trial, number: int) -> float:
    """A trial's value, the higher the better."""
    value = float(trial["values"][number])
    return value if goal["better"] == "higher" else -value


def table(goals: Sequence[Mapping[str, Any]], done: Sequence[Trial]) -> str:
    """The best trials by the first objective."""
    order = sorted(done, key=lambda trial: -worth(goals[0], trial, 0))[:MOST_TRIALS]
    rows = [
        [str(t["number"]), " ".join(t["words"] or ()), *(f"{v:.4g}" for v in t["values"]), f"{t['seconds'] or 0:.0f}"]
        for t in order
    ]
    return page.table(["trial", "", *(goal["name"] for goal in goals), "time, s"], rows, words=2) if rows else ""


def importances(search: Search) -> str:
    """The share of each parameter, or why it cannot be said."""
    parts = []
    for goal, found in search["importances"].items():
        order = sorted(found.items(), key=lambda pair: -pair[1])
        parts.append(page.table([f"what mattered for {goal}", "%"], [[k, f"{100 * v:.0f}"] for k, v in order]))
    for goal, why in search["why_no_importances"].items():
        parts.append(page.paragraph(f"What mattered for {goal} cannot be said: {why}", "note"))
    return "".join(parts)


def over_parameters(search: Search, done: Sequence[Trial], number: int, goal: Mapping[str, Any]) -> list[Panel]:
    """A slice plot for each parameter: a dot a trial, its value over the parameter's."""
    drawn = []
    for key, kind in search["space"].items():
        there = [trial for trial in done if key in trial["params"]]
        if len(there) > 1:
            drawn.append(one_slice(key, kind, there, number, goal))
    return drawn


def one_slice(
    key: str, kind: Mapping[str, Any], trials: Sequence[Trial], number: int, goal: Mapping[str, Any]
) -> Panel:
    """One of them."""
    values = [trial["values"][number] for trial in trials]
    with axes() as drawn:
        if kind["kind"] == "choice":
            places = [float(kind["choices"].index(trial["params"][key])) for trial in trials]
        else:
            places = [float(trial["params"][key]) for trial in trials]
            drawn.set_xscale("log" if kind["log"] else "linear")
        drawn.plot(places, values, "o", color=SERIES[0], markersize=5, alpha=0.55, markeredgewidth=0)
        finish(drawn, key)
        logarithmic(drawn.xaxis, drawn.get_xscale())
        if kind["kind"] == "choice":
            drawn.set_xticks(range(len(kind["choices"])), [str(choice)[:LETTERS] for choice in kind["choices"]])
            drawn.set_xlim(-0.5, len(kind["choices"]) - 0.5)
        return Panel(f"{goal['name']} over {key}", svg_of(drawn, f"{goal['name']} over {key}"))


def place_on_axis(kind: Mapping[str, Any], value: Any) -> float:
    """Where a value lies between the ends of its parameter, 0..1."""
    if kind["kind"] == "choice":
        return kind["choices"].index(value) / max(1, len(kind["choices"]) - 1)
    low, high, number = kind["low"], kind["high"], float(value)
    if kind["log"]:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low) if high > low else 0.5


def parallel(search: Search, done: Sequence[Trial]) -> list[Panel]:
    """Parallel coordinates: a line a trial through its parameters and the first objective, the best one marked."""
    space, goal = search["space"], search["objectives"][0]
    whole = [trial for trial in done if trial["params"].keys() >= space.keys()]
    if len(whole) < 2 or len(space) < 2:
        return []
    order = sorted(whole, key=lambda trial: worth(goal, trial, 0))
    values = [trial["values"][0] for trial in order]
    ends: Mapping[str, Any] = {"kind": "float", "low": min(values), "high": max(values), "log": False}
    title = f"Every trial; the better its {goal['name']}, the stronger its line"
    with axes(1016, 300, left=20, bottom=48) as drawn:
        for rank, trial in enumerate(order):
            y = [place_on_axis(kind, trial["params"][key]) for key, kind in space.items()]
            y.append(place_on_axis(ends, trial["values"][0]))
            best = rank == len(order) - 1
            strength = 0.08 + 0.72 * rank / len(order)
            colour, width = (SERIES[1], 2.2) if best else (SERIES[0], 1.2)
            drawn.plot(range(len(y)), y, color=colour, linewidth=width, alpha=1.0 if best else strength)
        coordinates(drawn, {**space, goal["name"]: ends})
        return [Panel(title, svg_of(drawn, title), wide=True)]


def coordinates(drawn: Any, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """The vertical axes with their names and ends."""
    for place, kind in enumerate(kinds.values()):
        drawn.axvline(place, color=RULE, linewidth=1, zorder=0)
        ends = (kind["choices"][0], kind["choices"][-1]) if kind["kind"] == "choice" else (kind["low"], kind["high"])
        for height, end, side in ((0.0, ends[0], "top"), (1.0, ends[1], "bottom")):
            said = end if isinstance(end, str) else short(float(f"{end:.3g}"))
            shift = -0.03 if side == "top" else 0.03
            drawn.text(place, height + shift, said, ha="center", va=side, color=MUTED, fontsize=10)
    drawn.set_xticks(range(len(kinds)), [brief_keys(list(kinds))[key][-LETTERS:] for key in kinds], color=INK)
    drawn.tick_params(axis="x", pad=18)
    drawn.set(yticks=[], xlim=(-0.4, len(kinds) - 0.6), ylim=(-0.02, 1.12))
    drawn.spines["bottom"].set_visible(False)


def trade_off(goals: Sequence[Mapping[str, Any]], done: Sequence[Trial], best: Sequence[int]) -> Panel:
    """Both objectives of every trial; those that none beats in another colour."""
    title = f"{goals[0]['name']} over {goals[1]['name']}"
    with axes() as drawn:
        for colour, chosen in ((MUTED, False), (SERIES[1], True)):
            points = [trial["values"] for trial in done if (trial["number"] in best) is chosen]
            drawn.plot(
                [p[1] for p in points], [p[0] for p in points], "o", color=colour, markersize=5, markeredgewidth=0
            )
        finish(drawn, goals[1]["name"])
        return Panel(title, svg_of(drawn, title), note="in colour: trials that none beats in both")
