"""Pictures and tables for W&B, made from the files that a stage leaves in its folder: views, confusion, mistakes."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from PIL import Image, ImageDraw

from smalldata_vit.results import read_json

TILE, GAP = 64, 3
"""Pixels of a view in a picture, and between two."""
CELL, MARGIN = 34, 90
"""Pixels of a cell of a confusion matrix with numbers, and for the names of the classes beside it."""
NUMBERED = 20
"""Classes up to which a confusion matrix has numbers; more are shown by colour alone."""
LEAST_SIDE = 480
PAIRS = 50
"""Pairs of classes in the table of those that are mixed up most."""
WRONG, RIGHT = (200, 100, 43), (13, 112, 104)
SPLITS = ("test", "val")
MISTAKE = ("image", "split", "place", "shows", "was said", "probability of the class", "probability of what was said")


def views(folder: Path) -> dict[str, Any]:
    """A picture for each kept training image: as evaluation sees it, then its views as they go into the network."""
    arrays = arrays_of(folder / "views.npz")
    groups = {name.removeprefix("views_"): each for name, each in arrays.items() if name.startswith("views_")}
    if not groups:
        return {}
    said = "as evaluated; " + "; ".join(f"{name}: {g.shape[1]} of {g.shape[2]} px" for name, g in groups.items())
    rows = [
        wandb.Image(
            in_a_row([plain, *(view for g in groups.values() for view in g[place])]), caption=f"{index}: {said}"
        )
        for place, (index, plain) in enumerate(zip(arrays["index"], arrays["plain"], strict=True))
    ]
    return {"media/views": rows}


def in_a_row(pictures: Sequence[np.ndarray]) -> Image.Image:
    """Pictures of any size side by side, each `TILE` pixels wide and high; enlarged ones keep their pixels visible."""
    row = Image.new("RGB", (len(pictures) * (TILE + GAP) - GAP, TILE), "white")
    for place, pixels in enumerate(pictures):
        way = Image.Resampling.NEAREST if len(pixels) < TILE else Image.Resampling.BILINEAR
        row.paste(Image.fromarray(pixels).resize((TILE, TILE), way), (place * (TILE + GAP), 0))
    return row


def confusion(outcome: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The matrix of the split that was judged last as a picture, and a table of the classes mixed up most."""
    found = outcome.get("evaluators", {}).get("accuracy", {}).get("confusion")
    if not found:
        return {}
    counts = np.array(found)
    named = names if len(names) == len(counts) else [str(number) for number in range(len(counts))]
    caption = "rows: what an image shows; columns: what was said"
    picture = with_numbers(counts, named) if len(counts) <= NUMBERED else by_colour(counts)
    table = wandb.Table(columns=["shows", "was said", "images", "share of class"], data=mixed_up(counts, named))
    return {"media/confusion": wandb.Image(picture, caption=caption), "media/mixed_up": table}


def shares(counts: np.ndarray) -> np.ndarray:
    """Of each row's sum; 0 where a class has no image."""
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def colours(counts: np.ndarray) -> np.ndarray:
    """8-bit colours (C, C, 3), as strong as the square root of the share, so that rare mistakes can be seen."""
    full = np.where(np.eye(len(counts), dtype=bool)[..., None], RIGHT, WRONG)
    strength = np.sqrt(shares(counts))[..., None]
    return np.round(255 + strength * (full - 255)).astype(np.uint8)


def by_colour(counts: np.ndarray) -> Image.Image:
    """Equal squares without a word."""
    side = len(counts) * -(-LEAST_SIDE // len(counts))
    return Image.fromarray(colours(counts)).resize((side, side), Image.Resampling.NEAREST)


def with_numbers(counts: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Squares with their counts, and the names of the classes on the left."""
    side = len(counts) * CELL
    picture = Image.new("RGB", (MARGIN + side, side), "white")
    cells = Image.fromarray(colours(counts)).resize((side, side), Image.Resampling.NEAREST)
    picture.paste(cells, (MARGIN, 0))
    pen = ImageDraw.Draw(picture)
    for row, (line, share) in enumerate(zip(counts, shares(counts), strict=True)):
        middle = row * CELL + CELL // 2
        pen.text((MARGIN - 6, middle), names[row][:14], fill="black", anchor="rm")
        for column, count in enumerate(line):
            at = (MARGIN + column * CELL + CELL // 2, middle)
            if count:
                pen.text(at, str(count), fill="white" if share[column] > 0.4 else "black", anchor="mm")
    return picture


def mixed_up(counts: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """The pairs with most mistakes: class shown, class said, images, share of the class."""
    wrong, of_class = counts * (1 - np.eye(len(counts), dtype=int)), shares(counts)
    places = [divmod(int(place), len(counts)) for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    return [
        [names[true], names[said], int(wrong[true, said]), float(of_class[true, said])]
        for true, said in places
        if wrong[true, said] > 0
    ]


def mistakes(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """A table of what was named wrongly with most confidence, each with its picture as the network saw it."""
    arrays, rows = arrays_of(folder / "predictions.npz"), []
    for split in SPLITS:
        if f"{split}_mistakes" not in arrays:
            continue
        facts = (arrays[f"{split}_{name}"] for name in ("pictures", "mistakes", "odds"))
        for pixels, (index, true, said), (less, more) in zip(*facts, strict=True):
            picture = wandb.Image(Image.fromarray(pixels))
            words = (names[i] if i < len(names) else str(i) for i in (true, said))
            rows.append([picture, split, int(index), *words, float(less), float(more)])
    return {"media/mistakes": wandb.Table(columns=list(MISTAKE), data=rows)} if rows else {}


def attention(folder: Path, images: int, seconds: float) -> dict[str, Any]:
    """Where the network looks in test images, drawn by a process of its own on the CPU; empty for `images` = 0.

    RuntimeError, with the last line of what it said, if it draws nothing in so many seconds; a network of convolutions
    has nothing to draw.
    """
    if images == 0:
        return {}
    into, drawing = folder / "attention", "smalldata_vit.reports.attention"
    command = [sys.executable, "-m", drawing, str(folder), "--images", str(images), "--into", str(into)]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("SMALLDATA_VIT_")}
    try:
        done = subprocess.run(
            command, env=alone | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"drawing it took more than {seconds:.0f} s") from error
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it was not drawn"])[-1])
    drawn = [into / file for file in ("attention.png", "kept.png", "rollout.png") if (into / file).exists()]
    return {"media/attention": [wandb.Image(str(file), caption=file.stem) for file in drawn]}


def checkpoint(folder: Path, outcome: Mapping[str, Any], name: str) -> Any:
    """The weights that were selected, as an artifact with the stage's numbers; None if there are none."""
    family = "best" if outcome.get("selected", {}).get("rule") == "best" else "step"
    found = sorted((folder / "checkpoints").glob(f"{family}_*.ckpt"))
    if not found:
        return None
    told = {key: outcome[key] for key in ("metrics", "key", "seed", "selected") if key in outcome}
    artifact = wandb.Artifact(name, type="checkpoint", metadata=told)
    artifact.add_file(str(found[-1]), policy="immutable", skip_cache=True)  # no second copy on this disk
    return artifact


def class_names(folder: Path) -> list[str]:
    """Names of the dataset's classes; empty where none were recorded."""
    file = folder / "data.json"
    return list(read_json(file).get("classes", ())) if file.exists() else []


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; empty if there is none."""
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}
