"""A dataset as a dry run sees it: counted and sampled. Nothing is downloaded, and no decoded image is written."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from smalldata_vit import known_splits
from smalldata_vit.data.cache import FORMAT, Found
from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.images import Images
from smalldata_vit.data.keeping import Keeping
from smalldata_vit.data.reading import DIGEST_BYTES
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import stated_bytes
from smalldata_vit.data.sources import Opened, RawSplit
from smalldata_vit.data.splits import Splits

SAMPLED = 256
"""Images of a split that stand for all of them where these were not decoded yet."""


@dataclass(frozen=True)
class Looked:
    """What is known of a stage's data.

    Arguments:
        splits: with the numbers of images that training will have.
        exact: whether they are those of training to the last pixel; else a sample stands for all.
        remark: what a person should know of them.
        writes: bytes of decoded images that training will keep, by folder.
    """

    splits: Splits
    exact: bool = True
    remark: str | None = None
    writes: Mapping[Path, int] = field(default_factory=dict)


def looked_at(config: Mapping[str, Any]) -> Looked:
    """The data of a stage. FileNotFoundError: files are missing, and nothing says how many there should be."""
    if known_splits.places_of(config["dataset"]) is None:
        dataset = instantiate(config["dataset"], _convert_="all")
        return Looked(dataset.load(config["seed"]), remark="the dataset is not ours: loaded as training loads it")
    dataset = instantiate(without_download(config["dataset"]), _convert_="all")
    sampling = Sampling(dataset.keeping)
    dataset.keeping = sampling
    try:
        splits = dataset.load(config["seed"])
    except FileNotFoundError as error:
        if dataset.layout == "folder" or None in (dataset.expected["num_train"], dataset.expected["num_classes"]):
            raise
        source = config["dataset"]["source"]
        fetched = source.get("download") and source.get("downloads", True)
        then = "the run will download them" if fetched else f"the run will stop: {error}"
        side = max(dataset.image_size, dataset.resolution.shorter_side or 0)
        dataset.source = Expected(dataset.expected, side)
        splits = dataset.load(config["seed"])
        remark = f"its files are not here (made-up images of {side} x {side} pixels were measured; {then})"
        # The end of a cache's name is a hash of the files.
        writes = {
            place.with_name(f"{place.name.rpartition('-')[0]}-…"): size for place, size in sampling.writes.items()
        }
        return Looked(splits, False, remark, writes)
    remark = "its images are not decoded yet (some were measured; classes were taken as equally large)"
    return Looked(splits, sampling.exact, None if sampling.exact else remark, sampling.writes)


def without_download(node: Any) -> Any:
    """A dataset's config that may fetch nothing."""
    if isinstance(node, Mapping):
        return {key: False if key == "download" else without_download(value) for key, value in node.items()}
    return [without_download(value) for value in node] if isinstance(node, list) else node


class Expected:
    """A source of made-up images, as many as a dataset is expected to have.

    Arguments:
        numbers: `num_classes`, `num_train`, `num_test` (None: there is no such split).
        side: of each image, in pixels.
    """

    def __init__(self, numbers: Mapping[str, int | None], side: int) -> None:
        self.numbers, self.side = numbers, side

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """Train, and test if one is expected."""
        counts = {split: self.numbers[f"num_{split}"] for split in ("train", "test")}
        return {s: RawSplit(f"expected {s}", partial(self._opened, c)) for s, c in counts.items() if c}

    def _opened(self, count: int) -> Opened:
        noise = np.random.default_rng(0).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        names = [str(name) for name in range(self.numbers["num_classes"] or 1)]
        return Opened(names, [str(i) for i in range(count)], lambda i: (noise, i % len(names)))


class Sampling:
    """Stands in for a dataset's `Keeping`: takes what lies decoded, and of everything else a sample.

    Arguments:
        keeping: the dataset's own.
    """

    def __init__(self, keeping: Keeping) -> None:
        self.keeping, self.exact = keeping, True
        self.writes: dict[Path, int] = {}

    def found(self, raw: Mapping[str, RawSplit], name: str, resolution: Resolution) -> dict[str, Found]:
        """By split its images."""
        places = {s: place_of(one, f"{name}-{s}", self.keeping.folder, resolution) for s, one in raw.items()}
        pixels = self.keeping.decoded == "cache"
        if all(place is None or is_decoded(place, pixels) for place in places.values()):
            return self.keeping.found(raw, name, resolution)
        self.exact = False
        found = {}
        for split, one in raw.items():
            opened = one.open()
            found[split] = sampled(opened, resolution)
            place = places[split]
            if pixels and place is not None:
                self.writes[place] = stated_bytes(opened, resolution)
        return found


def place_of(raw: RawSplit, name: str, folder: Path, resolution: Resolution) -> Path | None:
    """Where the decoded images of a split lie, or will; None where they are read anew each time."""
    if raw.stamp is None:
        return None
    key = hashlib.sha256(f"{FORMAT}:{resolution.key}:{raw.stamp}".encode()).hexdigest()[:20]
    return folder / "images" / f"{name}-{key}"


def is_decoded(place: Path, pixels: bool) -> bool:
    """Whether an earlier process left the images of a split (`pixels`), or what is known of them."""
    return (place / "index.json").is_file() and (not pixels or (place / "pixels.bin").is_file())


def sampled(opened: Opened, resolution: Resolution) -> Found:
    """As many images as a split has, all of them copies of a few."""
    count, reader = len(opened.files), resolution.reader(opened)
    pictures: list[np.ndarray] = []
    for i in np.unique(np.linspace(0, max(count - 1, 0), SAMPLED).round().astype(int)).tolist() if count else ():
        with suppress(BadImage):  # the run says which are bad
            pictures.append(np.ascontiguousarray(reader(i)[0]))
    if not pictures:
        raise ValueError(f"none of {count} images can be read, the first is {next(iter(opened.files), 'missing')}")
    which = torch.arange(count) % len(pictures)
    sizes = torch.tensor([picture.size for picture in pictures])
    return Found(
        Images(
            pixels=torch.from_numpy(np.concatenate([picture.ravel() for picture in pictures])),
            offsets=(sizes.cumsum(0) - sizes)[which],
            heights=torch.tensor([picture.shape[0] for picture in pictures])[which],
            widths=torch.tensor([picture.shape[1] for picture in pictures])[which],
            labels=torch.arange(count) * len(opened.names) // max(count, 1),
            digests=distinct(count, opened.files),
            moments=torch.stack([moments(picture) for picture in pictures])[which],
            names=list(opened.names),
            files=list(opened.files),
        ),
        {},
    )


def moments(picture: np.ndarray) -> torch.Tensor:
    """Sums of each channel's values and of their squares, int64 (2, 3)."""
    values = picture.reshape(-1, 3).astype(np.int64)
    return torch.from_numpy(np.stack([values.sum(0), np.square(values).sum(0)]))


def distinct(count: int, files: Sequence[str]) -> torch.Tensor:
    """Digests, uint8 (N, 16), that tell the images apart: copies are not to be taken for pictures shared by splits."""
    seed = int.from_bytes(hashlib.sha256("\n".join(files).encode("utf-8", "surrogateescape")).digest()[:8], "little")
    drawn = np.random.default_rng(seed).integers(0, 256, (count, DIGEST_BYTES), dtype=np.uint8)
    return torch.from_numpy(drawn)
