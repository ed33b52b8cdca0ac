"""The numbers of metrics.csv as curves that a page can hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.metrics import read_metrics

MOST_POINTS = 2000
"""Of a curve on a page."""


@dataclass(frozen=True)
class Curve:
    """One number over a stage."""

    name: str
    epoch: list[float]
    value: list[float]
    """Not a number where the run had none."""

    def add(self, epoch: float, value: float) -> None:
        """One more point; what was judged once more at the same place takes the place of the first."""
        if self.epoch and self.epoch[-1] == epoch:
            self.value[-1] = value
        else:
            self.epoch.append(epoch)
            self.value.append(value)

    def __len__(self) -> int:
        return len(self.value)


def curves_of(stage: Path) -> dict[str, Curve]:
    """Every number of a stage's metrics.csv by name; empty where there is no such file."""
    file = stage / "metrics.csv"
    found: dict[str, Curve] = {}
    for row in read_metrics(file) if file.exists() else ():
        found.setdefault(row.name, Curve(row.name, [], [])).add(row.epoch, row.value)
    return found


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """The curve with at most so many points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(curve) <= most:
        return curve
    kept: list[int] = []
    stretches = max(1, most // 2)
    for number in range(stretches):
        places = range(number * len(curve) // stretches, (number + 1) * len(curve) // stretches)
        known = [place for place in places if math.isfinite(curve.value[place])] or list(places[:1])
        ends = {min(known, key=curve.value.__getitem__), max(known, key=curve.value.__getitem__)}
        kept += sorted(ends)
    return Curve(curve.name, [curve.epoch[i] for i in kept], [curve.value[i] for i in kept])


def validation_curve(stage: Path, name: str) -> Curve:
    """One number of a metrics.csv, found without reading the others: a sweep has a thousand such files."""
    file, wanted = stage / "metrics.csv", f",{name},".encode()
    curve = Curve(name, [], [])
    lines = file.read_bytes().splitlines() if file.exists() else []
    for line in lines:
        if wanted in line and line.count(b",") == 4:
            _, epoch, _, _, value = line.split(b",")
            curve.add(float(epoch), float(value))
    return curve


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean over runs at the epochs that all of them have."""
    shared = set.intersection(*(set(curve.epoch) for curve in curves)) if curves else set()
    epochs = sorted(shared)
    by_epoch = [dict(zip(curve.epoch, curve.value, strict=True)) for curve in curves]
    means = [sum(values[epoch] for values in by_epoch) / len(by_epoch) for epoch in epochs]
    return Curve(curves[0].name if curves else "", epochs, means)
