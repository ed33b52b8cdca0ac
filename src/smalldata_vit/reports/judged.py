"""What a classifier got wrong, and how sure it was: confusion, calibration, the gravest mistakes as pictures."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from smalldata_vit.reports import page
from smalldata_vit.reports.calibration import Reliability, reliability
from smalldata_vit.reports.drawing import MUTED, RULE, SERIES, Key, Panel, finish, percent, reused_axes, svg_of

TABLE = 20
"""Classes up to which a confusion matrix is a table with numbers; more are shown as a picture."""
PAIRS = 10
HUE = (200, 100, 43)
RIGHT = (13, 112, 104)
NAMED = {"test": "test", "val": "validation"}


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Rows true, columns named: with numbers, or as a picture for many classes; beside it the pairs mixed up most."""
    if not matrix:
        return ""
    counts = np.array(matrix)
    shown = confusion_table(counts, names) if len(counts) <= TABLE else confusion_picture(counts)
    return f'<div class="beside"><div>{shown}</div><div>{mixed_up(counts, names)}</div></div>'


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> str:
    """A cell's colour is its share of the row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = ""
    for place, (row, share) in enumerate(zip(counts, shares, strict=True)):
        cells = ""
        for column, n in enumerate(row):
            kind = cell_kind(place == column, share[column], int(n))
            cells += f'<td class="{kind}" style="--share:{share[column]:.3f}">{n}</td>'
        rows += f"<tr><th>{escape(names[place])}</th>{cells}</tr>"
    return (
        f'<div class="scroll"><table class="confusion"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">rows: what an image shows; columns: what was said</p>'
    )


def cell_kind(right: bool, share: float, count: int) -> str:
    """How a cell is drawn."""
    return " ".join(word for word, holds in (("right", right), ("dense", share > 0.5), ("none", count == 0)) if holds)


def confusion_picture(counts: np.ndarray) -> str:
    """One pixel a pair of classes, as opaque as the square root of its share of the row, so that rare ones show."""
    shares = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = np.where(np.eye(len(counts), dtype=bool)[..., None], RIGHT, HUE)
    pixels[..., 3] = np.round(255 * shares)
    shown = page.picture(pixels, "confusion matrix", 460)
    note = f"{len(counts)} classes; rows: what an image shows; columns: what was said; rare ones are drawn stronger"
    return f"{shown}{page.paragraph(note, 'note')}"


def mixed_up(counts: np.ndarray, names: Sequence[str]) -> str:
    """The pairs of classes with most mistakes."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(place), len(counts)) for place in order]
    rows = [
        [names[true], names[said], str(wrong[true, said]), f"{100 * wrong[true, said] / counts[true].sum():.1f}"]
        for true, said in places
        if wrong[true, said] > 0
    ]
    return page.table(["shows", "was said", "images", "% of class"], rows, words=2) if rows else ""


def calibration(arrays: Mapping[str, np.ndarray]) -> str:
    """A reliability diagram and a histogram of confidence for each judged split, with the numbers in words."""
    parts, drawn = [], []
    for split, name in NAMED.items():
        found = sure_and_right(arrays, split)
        if found is None:
            continue
        gap = found.overconfident
        kind = "overconfident" if gap > 0 else "underconfident"
        parts.append(
            f"On {sum(found.count):,} {name} images the expected calibration error is {100 * found.ece:.1f} points; on "
            f"average the network is {kind} by {abs(100 * gap):.1f}."
        )
        drawn += [diagram(found, name), histogram(found, name)]
    return "".join(map(page.paragraph, parts)) + page.panels(drawn)


def sure_and_right(arrays: Mapping[str, np.ndarray], split: str) -> Reliability | None:
    """Reliability on a split; None where nothing was kept of it."""
    if f"{split}_probabilities" not in arrays:
        return None
    said = arrays[f"{split}_probabilities"].astype(np.float32)
    right = arrays[f"{split}_named"] == arrays[f"{split}_label"]
    return reliability(said.max(1), right)


def diagram(found: Reliability, name: str) -> Panel:
    """Accuracy over confidence, a dot a bin, its area the share of the images; a diagonal where both agree."""
    there = [place for place, count in enumerate(found.count) if count]
    sure, right = ([values[place] for place in there] for values in (found.confidence, found.accuracy))
    areas = [12 + 240 * found.count[place] / sum(found.count) for place in there]
    title = f"Accuracy over confidence, {name}"
    with reused_axes() as drawn:
        drawn.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1)
        drawn.plot(sure, right, color=SERIES[0], linewidth=1.2)
        drawn.scatter(sure, right, s=areas, color=SERIES[0], linewidth=0, alpha=0.85)
        finish(drawn, "confidence, %", percent)
        drawn.xaxis.set_major_formatter(percent)
        drawn.set(xlim=(0, 1.02), ylim=(0, 1.02))
        return Panel(title, svg_of(drawn, title), [Key("as sure as right", MUTED, dashed=True)])


def histogram(found: Reliability, name: str) -> Panel:
    """How many images were named with which confidence."""
    bins, title = len(found.count), f"Images by confidence, {name}"
    with reused_axes() as drawn:
        left = [place / bins for place in range(bins)]
        drawn.bar(left, found.count, width=0.86 / bins, align="edge", color=SERIES[0], linewidth=0)
        drawn.axhline(0, color=RULE, linewidth=1)
        finish(drawn, "confidence, %")
        drawn.xaxis.set_major_formatter(percent)
        drawn.set(xlim=(0, 1.02))
        return Panel(title, svg_of(drawn, title))


def mistakes(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """The gravest mistakes on test images, else on validation images."""
    split = next((split for split in NAMED if len(arrays.get(f"{split}_mistakes", ()))), None)
    if split is None:
        return ""
    shown = []
    facts = (arrays[f"{split}_{name}"] for name in ("mistakes", "odds", "pictures"))
    for (index, true, said), (less, more), pixels in zip(*facts, strict=True):
        image = page.picture(pixels, f"{NAMED[split]} image {index}", 104)
        words = f"said {escape(names[said])}, {100 * float(more):.0f} %"
        shown.append(f"<div>{image}{words}<span>is {escape(names[true])}, {100 * float(less):.1f} %</span></div>")
    lead = page.paragraph(
        f"The {NAMED[split]} images that were named wrongly with most confidence, as the network saw them."
    )
    return f'{lead}<div class="mistakes">{"".join(shown)}</div>'


def read_predictions(stage: Path) -> dict[str, np.ndarray]:
    """The arrays that a stage kept of what it said; empty if it kept none."""
    return read_arrays(stage / "predictions.npz")


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; empty if there is none."""
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}


def class_names(record: Mapping[str, Any], count: int) -> list[str]:
    """Names of the classes from data.json, numbers where it has none."""
    named = list(record.get("classes", ()))
    return named if len(named) == count else [str(number) for number in range(count)]
