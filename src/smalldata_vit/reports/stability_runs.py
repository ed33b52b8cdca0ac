"""The runs of a comparison of stability, as the sweeps of `reports.stability` left them on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.metrics import read_metrics
from smalldata_vit.reports.stability_numbers import Run
from smalldata_vit.results import read_json

DIVERGED = "NonFiniteLoss"
"""How the error of a run begins whose loss or gradient was no finite number any more."""
SETTLED = ("finished", "diverged")
"""Outcomes that are a result; any other run is still to be made, or cannot run."""


@dataclass(frozen=True)
class Planned:
    """One of the runs: its place in the table, and the hash by which its results are known."""

    method: str
    factor: float
    seed: int
    lr: float
    hash: str


def runs_of(out: Path, method: str) -> Path:
    """The folder of a method's sweep."""
    return out / "runs" / method


def collected(out: Path, planned: Sequence[Planned]) -> dict[str, Path]:
    """By the hash of each planned run the folder that holds it; runs of other settings are left alone."""
    wanted = {one.hash for one in planned}
    found: dict[str, Path] = {}
    for file in sorted(runs_of(out, planned[0].method).glob("*/results.json")):
        known = str(read_json(file).get("config_hash"))
        if known in wanted and outcome_of(found.get(known)) not in SETTLED:
            found[known] = file.parent
    return found


def outcome_of(folder: Path | None) -> str:
    """`finished`, `diverged`, or what else is known of a run in words."""
    if folder is None:
        return "not started"
    record = read_json(folder / "results.json")
    error = str(record.get("error") or "")
    if record["status"] == "failed" and error.startswith(DIVERGED):
        return "diverged"
    return f"failed: {error}" if record["status"] == "failed" else str(record["status"])


def run_of(one: Planned, folder: Path) -> Run:
    """A settled run with its curves."""
    stage = read_json(folder / "results.json")["stages"]["pretrain"]
    curves: dict[str, dict[int, float]] = {"train/loss": {}, "val/knn_accuracy": {}}
    untrained = (stage.get("untrained") or {}).get("val/knn_accuracy")
    if untrained is not None:
        curves["val/knn_accuracy"][0] = untrained
    for row in read_metrics(folder / "pretrain" / "metrics.csv"):
        if row.name in curves:
            curves[row.name][row.step] = row.value
    loss, knn = (list(curve.items()) for curve in curves.values())
    images, warned = stage.get("train_images"), stage.get("warnings") or []
    return Run(one.method, one.factor, one.seed, one.lr, outcome_of(folder), loss, knn, images, warned)
