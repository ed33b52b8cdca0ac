"""What is written down of a dataset: which images went where, what was left out and why."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from smalldata_vit.data.cache import Found
from smalldata_vit.data.images import Images
from smalldata_vit.data.sources import RawSplit

log = logging.getLogger(__name__)

NAMED = 3
"""Ignored things that a line names; the record names all."""


def split_hash(splits: Mapping[str, Images]) -> str:
    """sha256 of every split's images, labels and their names, in hexadecimal; the folder they lie in does not count."""
    digest = hashlib.sha256()
    for name, images in splits.items():
        digest.update(f"{name}:{images.fingerprint}:".encode())
        digest.update("\x1f".join(images.files).encode())
    return digest.hexdigest()


def left_out(raw: Mapping[str, RawSplit], found: Mapping[str, Found]) -> dict[str, Any]:
    """What was ignored by its name or place, and what could not be read, by split; one line each in the log."""
    ignored = {split: {reason: list(names) for reason, names in one.ignored.items()} for split, one in raw.items()}
    for split, reasons in ignored.items():
        for reason, names in reasons.items():
            some = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
            log.info("%s: ignored %d: %s (%s)", split, len(names), reason, some)
    return {"ignored": ignored, "unreadable": {split: one.bad for split, one in found.items() if one.bad}}


def where(splits: Mapping[str, Images], labelled: Tensor) -> dict[str, Any]:
    """Per split: images, counts by class, fingerprint, file names; and the training images whose labels may be read."""
    told = {}
    for split, images in splits.items():
        counts = torch.bincount(images.labels, minlength=len(images.names)).tolist()
        told[split] = {
            "images": len(images), "per_class": counts, "fingerprint": images.fingerprint, "files": images.files,
        }  # fmt: skip
    files = splits["train"].files
    readable = "all" if len(labelled) == len(files) else [files[i] for i in labelled.tolist()]
    return {"classes": splits["train"].names, "splits": told, "labelled": readable}


def say(name: str, splits: Mapping[str, Images], labelled: Tensor) -> None:
    """One line: how many images there are of what."""
    counts = torch.bincount(splits["train"].labels, minlength=len(splits["train"].names))
    images = ", ".join(f"{len(one):,} {split}" for split, one in splits.items())
    hidden = "" if len(labelled) == len(splits["train"]) else f"; labels of {len(labelled):,} may be read"
    spread = f"{int(counts.min()):,} to {int(counts.max()):,} training images in each of {len(counts)} classes"
    log.info("dataset %s: images: %s; %s%s", name, images, spread, hidden)
