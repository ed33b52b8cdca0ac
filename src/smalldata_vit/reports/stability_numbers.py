"""How stable and how quick pretraining is: numbers of single runs, and of a method's runs over seeds and rates.

The claim that is looked at: instance discrimination is more stable and easier to optimise (Cao, Yu and Wu, ECCV 2022).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Curve = Sequence[tuple[int, float]]
"""(optimizer steps taken, value), in order."""

SHARE = 0.9
"""Of the final gain; the first step that reaches it counts."""


@dataclass(frozen=True)
class Run:
    """One pretraining.

    Arguments:
        factor: its learning rate as a multiple of its plan's.
        outcome: `finished`, or `diverged` where a loss or a gradient was no finite number any more.
        loss: means over the steps since the last entry.
        knn: k-NN accuracy on validation images (a fraction); step 0 is the untrained encoder, the last entry the final.
        images: that it was trained on; None for one that did not finish.
        warnings: what the run itself warned of, a collapse for one.
    """

    method: str
    factor: float
    seed: int
    lr: float
    outcome: str
    loss: Curve
    knn: Curve
    images: int | None = None
    warnings: Sequence[str] = ()

    @property
    def gain(self) -> float | None:
        """Of k-NN accuracy over the untrained encoder's; None where the run has no final number."""
        return self.knn[-1][1] - self.knn[0][1] if self.outcome == "finished" and len(self.knn) > 1 else None

    @property
    def final(self) -> float | None:
        """The last k-NN accuracy of a run that finished."""
        return self.knn[-1][1] if self.outcome == "finished" and self.knn else None

    @property
    def collapsed(self) -> bool:
        """Whether it finished no better than it began: its features say no more than those of random weights."""
        return self.gain is not None and not self.gain > 0

    @property
    def steps_needed(self) -> int | None:
        """The first step with 90 % of the final gain; None without a gain."""
        if self.gain is None or self.collapsed:
            return None
        bar = self.knn[0][1] + SHARE * self.gain
        return next(step for step, value in self.knn if step > 0 and value >= bar)

    @property
    def rises(self) -> float | None:
        """How far the loss went up in all, as a share of how far it fell to its lowest: 0 where it only fell.

        It needs no unit, so that losses of different kinds can be compared. None where the loss never fell.
        """
        values = [value for _, value in self.loss if math.isfinite(value)]
        fall = values[0] - min(values) if values else 0.0
        up = sum(max(0.0, after - before) for before, after in pairwise(values))
        return up / fall if fall > 0 else None


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What the runs of one method have in common; None where no run has the number."""
    finished = [run for run in runs if run.outcome == "finished"]
    return {
        "runs": len(runs),
        "images": next((run.images for run in finished), None),
        "diverged": sum(run.outcome == "diverged" for run in runs),
        "collapsed": sum(run.collapsed for run in runs),
        "failed_share": sum(run.outcome == "diverged" or run.collapsed for run in runs) / len(runs),
        "warned": sum(bool(run.warnings) for run in runs),
        "knn_untrained": _mean(run.knn[0][1] for run in finished if run.knn),
        "knn": _mean(run.final for run in finished),
        "knn_over_seeds": over_seeds(finished, lambda run: run.final),
        "knn_over_lrs": over_lrs(finished, lambda run: run.final),
        "loss_first": _mean(run.loss[0][1] for run in finished if run.loss),
        "loss_last": _mean(_last_loss(run) for run in finished),
        "loss_over_seeds": over_seeds(finished, _last_loss),
        "loss_over_lrs": over_lrs(finished, _last_loss),
        "rises": _mean(run.rises for run in runs),
        "steps_needed": _mean(run.steps_needed for run in finished),
        "steps_needed_over_seeds": over_seeds(finished, lambda run: run.steps_needed),
        "steps_needed_over_lrs": over_lrs(finished, lambda run: run.steps_needed),
    }


def over_seeds(runs: Sequence[Run], number: Callable[[Run], float | None]) -> float | None:
    """Standard deviation of a number over seeds at the same learning rate, pooled over learning rates.

    None where no learning rate has two runs with the number.
    """
    groups = [group for group in _by_factor(runs, number).values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups)
    return math.sqrt(squares / freedom) if freedom else None


def over_lrs(runs: Sequence[Run], number: Callable[[Run], float | None]) -> float | None:
    """Standard deviation over learning rates of the number's mean over seeds; None with fewer than two of them."""
    means = [statistics.mean(group) for group in _by_factor(runs, number).values()]
    return statistics.stdev(means) if len(means) > 1 else None


def _by_factor(runs: Sequence[Run], number: Callable[[Run], float | None]) -> dict[float, list[float]]:
    groups: dict[float, list[float]] = {}
    for run in runs:
        value = number(run)
        if value is not None and math.isfinite(value):
            groups.setdefault(run.factor, []).append(value)
    return groups


def _last_loss(run: Run) -> float | None:
    return run.loss[-1][1] if run.loss else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.mean(known) if known else None


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a method: k-NN in percent, spreads as standard deviations, losses' as shares of the last loss."""
    head = [
        "method", "k-NN, %", "over seeds", "over learning rates", "steps to 90 % of the gain", "over seeds",
        "over learning rates", "loss, first → last", "over seeds, %", "over learning rates, %", "rises of the loss, %",
        "failed", "of these diverged",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for method, row in found.items():
        last = row["loss_last"]
        relative = [_share(row[name], last) for name in ("loss_over_seeds", "loss_over_lrs")]
        steps = [_told(row[f"steps_needed{over}"], "{:.0f}") for over in ("", "_over_seeds", "_over_lrs")]
        cells = [
            method,
            *(_told(row[f"knn{over}"], "{:.1f}", 100) for over in ("", "_over_seeds", "_over_lrs")),
            *steps,
            f"{_told(row['loss_first'], '{:.3g}')} → {_told(last, '{:.3g}')}",
            *(_told(value, "{:.1f}", 100) for value in (*relative, row["rises"])),
            f"{row['diverged'] + row['collapsed']} of {row['runs']}",
            str(row["diverged"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _share(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else value / abs(of)


def _told(value: float | None, form: str, times: float = 1) -> str:
    return "–" if value is None else form.format(times * value)


def remarks(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the columns mean, and by each of them the methods in order, the steadiest or quickest first."""
    asked = {
        "knn_over_seeds": "Spread of k-NN over seeds",
        "knn_over_lrs": "Spread of k-NN over learning rates",
        "steps_needed": "Steps to 90 % of the gain",
        "rises": "Rises of the loss",
        "failed_share": "Runs that failed",
    }
    said = [
        "k-NN on validation images; a run failed if it diverged or if its encoder ended no better than untrained. "
        "Means are over the runs that finished, spreads standard deviations; rises are shares of the loss's whole fall."
    ]
    images = {method: row["images"] for method, row in found.items() if row["images"] is not None}
    if len(set(images.values())) > 1:
        said.append(f"Training images: {', '.join(f'{method} {count:,}' for method, count in images.items())}.")
    for name, what in asked.items():
        known = {method: row[name] for method, row in found.items() if row[name] is not None}
        if len(known) > 1:
            said.append(f"{what}, least first: {', '.join(sorted(known, key=known.__getitem__))}.")
    return said
