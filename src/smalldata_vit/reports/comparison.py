"""Arms of a comparison: mean, spread and n over seeds, as a table and in words."""

import math
import statistics
from collections.abc import Mapping

from smalldata_vit.reports import page
from smalldata_vit.reports.intervals import interval
from smalldata_vit.reports.sweep_tables import points

Arms = dict[str, dict[str, dict[str, float]]]
"""Arm to labels per class to seed to accuracy (a fraction)."""

BESIDE = ("dino_probe", "pixels", "untrained_probe")
"""Arms for which no job is run."""
COUNTS = ("1", "2", "5", "10", "all")
NAMES = {
    "dino_probe": "DINO, linear probe",
    "dino_finetuned": "DINO, fine-tuned",
    "scratch_equal_steps": "from scratch, equal supervised steps",
    "scratch_equal_compute": "from scratch, equal FLOPs",
    "pixels": "SVM on raw pixels",
    "untrained_probe": "untrained encoder, linear probe",
}


def spread(values: Mapping[str, float]) -> tuple[float, float, int]:
    """Mean, standard deviation over seeds (0 for one) and their number, in percent."""
    numbers = [100 * v for v in values.values()]
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0, len(numbers)


def counts_of(arms: Arms) -> list[str]:
    """The numbers of labels that any arm has, in their order."""
    return [count for count in COUNTS if any(by_seed.get(count) for by_seed in arms.values())]


def markdown(arms: Arms) -> str:
    """A row an arm, a column a number of labelled images per class: mean ± standard deviation (n)."""
    counts = counts_of(arms)
    lines = ["| test accuracy, % | " + " | ".join(counts) + " |", "| --- |" + " ---: |" * len(counts)]
    for arm, name in NAMES.items():
        cells = []
        for count in counts:
            values = arms.get(arm, {}).get(count)
            cells.append("–" if not values else "{:.1f} ± {:.1f} ({})".format(*spread(values)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def beside_the_arms(arms: Arms) -> str:
    """The arms for which no job was run, as HTML: mean ± 95 % interval over seeds; empty if none was judged."""
    counts, rows = counts_of(arms), []
    for arm in [arm for arm in BESIDE if arm in arms]:
        means = [interval(list(arms[arm][count].values())) if arms[arm].get(count) else None for count in counts]
        rows.append([NAMES[arm], *map(points, means)])
    lead = "test accuracy in %, by labels per class: what a linear probe and raw pixels reach from the same labels"
    return page.paragraph(lead, "note") + page.table(["", *counts], rows) if rows else ""


def paired(arms: Arms, one: str, other: str, count: str) -> tuple[float, float] | None:
    """Mean paired difference over common seeds and its standard error, in points; None without two common seeds."""
    first, second = arms.get(one, {}).get(count, {}), arms.get(other, {}).get(count, {})
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        return None
    differences = [100 * (first[s] - second[s]) for s in seeds]
    return statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(seeds))


def remarks(arms: Arms) -> list[str]:
    """Where pretraining helps, where it does not, and whether fine-tuning keeps what its probe had."""
    said = []
    for rival in ("scratch_equal_steps", "scratch_equal_compute"):
        for arm in ("dino_probe", "dino_finetuned"):
            found = {count: paired(arms, arm, rival, count) for count in COUNTS}
            known = {count: pair for count, pair in found.items() if pair is not None}
            if not known:
                continue
            lost = [f"{c} ({d:+.1f} ± {e:.1f})" for c, (d, e) in known.items() if d <= e]
            won = [f"{c} ({d:+.1f} ± {e:.1f})" for c, (d, e) in known.items() if d > e]
            what = f"{NAMES[arm]} against {NAMES[rival]}, paired difference ± standard error:"
            said.append(f"{what} ahead at {', '.join(won) or 'no count'}; no gain at {', '.join(lost) or 'no count'}.")
    pairs = {count: paired(arms, "dino_finetuned", "dino_probe", count) for count in COUNTS}
    compared = {count: pair for count, pair in pairs.items() if pair is not None}
    if not compared:
        return [*said, "Fine-tuning and its probe share fewer than two seeds: nothing can be said of their difference."]
    below = [f"{count} ({d:+.1f} ± {e:.1f})" for count, (d, e) in compared.items() if d < -e]
    said.append(
        f"Fine-tuning falls below its own probe by more than a standard error at: {', '.join(below)}."
        if below
        else "Fine-tuning nowhere falls below its own probe by more than a standard error."
    )
    return said
