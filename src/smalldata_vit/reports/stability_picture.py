"""Stability as a picture: loss and k-NN accuracy over steps, a column a method, a line a run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smalldata_vit.reports.stability_numbers import Curve, Run

COLOURS = ("#0b6e4f", "#c1666b", "#3d5a80", "#e09f3e", "#7b4b94", "#586f7c")


def draw(runs: Mapping[str, Sequence[Run]], file: Path) -> None:
    """Write a PNG. A colour is a learning rate, as a multiple of the plan's; a cross ends a run that diverged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    factors = sorted({run.factor for some in runs.values() for run in some})
    colours = {factor: COLOURS[place % len(COLOURS)] for place, factor in enumerate(factors)}
    size = (0.6 + 2.3 * len(runs), 4.8)
    figure, axes = plt.subplots(2, len(runs), figsize=size, dpi=160, layout="constrained", squeeze=False)
    for column, (method, some) in enumerate(runs.items()):
        for run in some:
            diverged = run.outcome == "diverged"
            _line(axes[0, column], run.loss, colours[run.factor], diverged)
            _line(axes[1, column], [(step, 100 * value) for step, value in run.knn], colours[run.factor], diverged)
        axes[0, column].set_title(method, fontsize=9)
        axes[1, column].set_xlabel("steps", fontsize=8)
        axes[1, column].sharey(axes[1, 0])
    for row, what in enumerate(("loss", "k-NN accuracy (validation), %")):
        axes[row, 0].set_ylabel(what, fontsize=8)
    for one in axes.flat:
        one.grid(alpha=0.25)
        one.tick_params(labelsize=7)
        one.spines[["top", "right"]].set_visible(False)
    for factor, colour in colours.items():
        axes[0, 0].plot([], [], color=colour, label=f"learning rate × {factor:g}")
    axes[0, 0].legend(frameon=False, fontsize=7)
    figure.savefig(file)
    plt.close(figure)


def _line(axes: Any, curve: Curve, colour: str, diverged: bool) -> None:
    finite = [(step, value) for step, value in curve if math.isfinite(value)]
    steps, values = [step for step, _ in finite], [value for _, value in finite]
    axes.plot(steps, values, color=colour, linewidth=0.9, alpha=0.85)
    if diverged and finite:
        axes.plot(steps[-1:], values[-1:], color=colour, marker="x", markersize=5)
