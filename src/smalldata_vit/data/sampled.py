"""A few training images of each class of a larger dataset, drawn by a seed or named by a file: SIN-10k and its like.

SIN-10k: Cao, Yu, Wu, Training Vision Transformers with Only 2040 Images, ECCV 2022; 10 images of each of ImageNet's
1,000 classes. Which 10 is not published, so ours are a draw of our own.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from smalldata_vit.data.listed import Lists
from smalldata_vit.data.split import places

log = logging.getLogger(__name__)


def sampled(
    home: Path, of: Callable[[Path], Lists], images_per_class: int, sample_seed: int, chosen: str | None
) -> Lists:
    """The lists that `of` reads, with fewer training images; what is not training stays whole.

    images_per_class: drawn from each class. Fewer of them are the first of more: 5 are among the 10 of the same seed.
    sample_seed: of the draw, which depends on it and on the files' names alone.
    chosen: file with a sample made before, which is taken in place of a draw: a name in each line, or the `data.json`
        of a run that had it.
    """
    found = of(home)
    files = [file for file, _ in found.splits["train"]]
    labels = np.array([label for _, label in found.splits["train"]], dtype=np.int64)
    if chosen is None:
        keep = _drawn(found.names, files, labels, images_per_class, sample_seed)
    else:
        keep = _named(Path(chosen).expanduser(), files, home, carved="val" not in found.splits)
    train = [image for image, kept in zip(found.splits["train"], keep, strict=True) if kept]
    how = f"{images_per_class} of each class, seed {sample_seed}" if chosen is None else f"named in {chosen}"
    log.info(
        "sample of %s of %s training images (%s): sha256 %s of their names",
        f"{len(train):,}", f"{len(files):,}", how, digest([file for file, _ in train]),
    )  # fmt: skip
    return replace(found, splits={**found.splits, "train": train})


def digest(files: Sequence[str]) -> str:
    """sha256 of the names, sorted, a line each: of two samples it tells whether they are the same."""
    return hashlib.sha256("\n".join(sorted(files)).encode("utf-8", "surrogateescape")).hexdigest()


def _drawn(names: Sequence[str], files: Sequence[str], labels: np.ndarray, count: int, seed: int) -> list[bool]:
    if count < 1:
        raise ValueError(f"dataset.source.lists.images_per_class={count}: it is at least 1")
    there = np.bincount(labels, minlength=len(names))
    if (there < count).any():
        least = int(there.argmin())
        raise ValueError(
            f"dataset.source.lists.images_per_class={count}, but {names[least]} has {there[least]} training images; "
            f"{int((there < count).sum())} of {len(names)} classes have fewer than {count}"
        )
    drawn: list[bool] = (places(labels, files, seed, "sample") < count).tolist()
    return drawn


def _named(path: Path, files: Sequence[str], home: Path, carved: bool) -> list[bool]:
    if not path.is_file():
        raise FileNotFoundError(f"dataset.source.lists.chosen={path} is no file; it is to list images by name")
    wanted = _of_run(path, carved) if path.suffix == ".json" else path.read_text(encoding="utf-8").splitlines()
    names = {name.strip() for name in wanted if name.strip()}
    if unknown := sorted(names - set(files)):
        raise ValueError(
            f"{path} names {len(unknown):,} of {len(names):,} images that are not among the {len(files):,} training "
            f"images in {home}, for example {unknown[0]}; names are like {files[0]}"
        )
    return [file in names for file in files]


def _of_run(path: Path, carved: bool) -> list[str]:
    """Training images by a run's record, with those that it carved from them for validation."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or "splits" not in record:
        raise ValueError(f"{path} is no data.json of a run: it has no splits")
    if record["fraction"] != 1 or record["merge_validation"]:
        raise ValueError(
            f"{path} is of a run with fraction={record['fraction']} and merge_validation={record['merge_validation']}: "
            "its training images are not its sample"
        )
    splits = record["splits"]
    return [*splits["train"]["files"], *(splits["val"]["files"] if carved and "val" in splits else ())]
