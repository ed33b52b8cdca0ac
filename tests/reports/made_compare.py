"""The folder that `make compare` leaves, made up: jobs by arm, with accuracies that a test can look up."""

import json
from pathlib import Path

import made_runs
import numpy as np
from scipy import stats

SWEEPS = {
    "dino": ("dino", None),
    "scratch_equal_steps": ("supervised", None),
    "scratch_equal_compute_1": ("supervised finetune.steps=900", "1"),
    "scratch_equal_compute_null": ("supervised finetune.steps=700", "null"),
}
ARMS = {
    "dino": "DINO, fine-tuned",
    "scratch_equal_steps": "from scratch, equal supervised steps",
    "scratch_equal_compute": "from scratch, equal FLOPs",
}
SEEDS, COUNTS = (0, 1, 2), ("1", "10", "null")


def make_compare(folder: Path) -> Path:
    """Three arms at three numbers of labels, that of equal FLOPs at two; one job failed."""
    random = np.random.default_rng(0)
    for sweep, (method, only) in SWEEPS.items():
        for count in COUNTS if only is None else (only,):
            for seed in SEEDS:
                labels = None if count == "null" else int(count)
                accuracy = round(0.7 + 0.1 * COUNTS.index(count) + 0.05 * random.random(), 4)
                place = folder / sweep / f"{count}_{seed}"
                made_runs.make_run(place, f"method={method}", seed, accuracy, labels, method == "dino")
    broken = folder / "scratch_equal_steps" / "10_2" / "results.json"
    broken.write_text(json.dumps(json.loads(broken.read_text()) | {"status": "failed", "error": "it <broke>"}))
    return folder


def accuracies(folder: Path, arm: str, count: str) -> dict[int, float]:
    """Of each seed the test accuracy that results.json has, read without the code under test."""
    found = {}
    for file in sorted(folder.glob(f"{arm}*/*/results.json")):
        result = json.loads(file.read_text())
        labels = result["stages"]["finetune"]["labels_per_class"]
        if result["status"] == "finished" and ("null" if labels is None else str(labels)) == count:
            found[result["seed"]] = result["stages"]["finetune"]["metrics"]["test/accuracy"]
    return found


def shown(values: list[float], sign: str = "") -> str:
    """A mean with its 95 % interval, in percent, as a page has it."""
    mean, half = 100 * np.mean(values), 100 * stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:{sign}.2f}\u00a0±\u00a0{half:.2f}".replace("-", "−")


def expected_rows(folder: Path, counts: tuple[str, ...]) -> dict[str, list[str]]:
    """For each arm the cells of the table by labels per class."""
    found = {ARMS[arm]: [list(accuracies(folder, arm, count).values()) for count in counts] for arm in ARMS}
    return {name: [shown(values) if values else "–" for values in cells] for name, cells in found.items()}


def expected_gains(folder: Path, counts: tuple[str, ...]) -> list[tuple[str, float]]:
    """What DINO has more than the baseline at each number of labels, and the p of scipy's paired t-test."""
    found = []
    for count in counts:
        one, other = accuracies(folder, "dino", count), accuracies(folder, "scratch_equal_steps", count)
        seeds = sorted(one.keys() & other.keys())
        gaps = [one[seed] - other[seed] for seed in seeds]
        p = stats.ttest_rel([one[seed] for seed in seeds], [other[seed] for seed in seeds]).pvalue
        found.append((shown(gaps, sign="+"), float(p)))
    return found
