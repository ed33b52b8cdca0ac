"""A dataset as its config describes it: images in memory, split, with its facts checked against what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from smalldata_vit.data.cache import Found
from smalldata_vit.data.expectations import check_classes, check_facts, check_readable
from smalldata_vit.data.folders import Folders
from smalldata_vit.data.images import Images
from smalldata_vit.data.keeping import Keeping
from smalldata_vit.data.record import left_out, say, split_hash, where
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import Room
from smalldata_vit.data.sharing import Sharing
from smalldata_vit.data.sources import RawSplit, Source, cache_folder, joined
from smalldata_vit.data.split import places, stratified
from smalldata_vit.data.splits import Channels, Splits, Validation, three, validation_share

__all__ = ["Dataset", "Splits", "validation_share"]


class Dataset:
    """Images from a source, cut into train, val and test.

    Arguments:
        name: in messages, records and names of cached files.
        source: where the images come from when `layout` is `official`.
        layout: `folder` reads class folders below `root` in place of the source, and keeps all facts.
        root: folder with the files; None: where downloads go.
        cache: folder for decoded images and downloads; None: $SMALLDATA_VIT_CACHE, or ~/.cache/smalldata-vit.
        num_classes, num_train, num_test: what is expected before any split is carved; None: whatever is found.
        mean, std: per channel of pixels scaled to 0..1; None: measured on the training images.
        image_size: side of the network's input in pixels.
        validation: share of the training images that is carved out for validation, stratified, when the set has no
            validation images of its own; `none`: no carving; `test`: all of them train (the set's own validation images
            are left alone), and the test images judge during training too, for published protocols that do so.
        validation_seed: of that choice; it does not depend on the run's seed.
        merge_validation: whether the set's own validation images join the training images (before any carving).
        labels_per_class: labels that may be read in each class; None: all. It hides labels, never images.
        fraction: share of the training images that is kept, stratified, by the run's seed.
        on_bad_image: what an unreadable image leads to: `error` or `skip`.
        most_bad_images: share of a split's images that may be skipped.
        most_shared: share of the val or test images that may also be training images, pixel by pixel.
        drop_shared: whether such training images are left out.
        shorter_side: images are kept with at most this many pixels on the shorter side; None: as they are.
        scaled_jpeg: whether JPEG files are decoded for that size, which is faster and gives slightly other pixels.
        decoded: `cache` keeps the decoded images in a file; `stream` decodes them anew each time they are needed, in
            other processes. Results are the same.
        cache_limit: GB (10^9 bytes) that such a file may take, for each split; None: what the disk has.
        workers: processes that decode in `stream`; `auto`: one for each core.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        layout: Literal["official", "folder"],
        root: str | None,
        cache: str | None,
        num_classes: int | None,
        num_train: int | None,
        num_test: int | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        image_size: int,
        validation: float | str,
        validation_seed: int,
        merge_validation: bool,
        labels_per_class: int | None,
        fraction: float,
        on_bad_image: Literal["error", "skip"],
        most_bad_images: float,
        most_shared: float,
        drop_shared: bool,
        shorter_side: int | None,
        scaled_jpeg: bool,
        decoded: Literal["cache", "stream"],
        cache_limit: float | None,
        workers: int | str,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"dataset.fraction={fraction}: it is above 0 and at most 1")
        if labels_per_class is not None and labels_per_class < 1:
            raise ValueError(f"dataset.labels_per_class={labels_per_class}: it is at least 1, or null for all labels")
        self.name, self.layout, self.image_size = name, layout, image_size
        self.source = Folders() if layout == "folder" else source
        self.cache = cache_folder(cache)
        self.root = None if root is None else Path(root).expanduser()
        self.expected = {"num_classes": num_classes, "num_train": num_train, "num_test": num_test}
        self.mean, self.std = mean, std
        self.validation, self.watches_test = validation_share(validation), validation == "test"
        self.validation_seed, self.merge_validation = validation_seed, merge_validation
        self.labels_per_class, self.fraction = labels_per_class, fraction
        self.on_bad_image, self.most_bad_images = on_bad_image, most_bad_images
        self.sharing = Sharing(most_shared, drop_shared)
        self.resolution = Resolution(shorter_side, scaled_jpeg)
        self.keeping = Keeping(decoded, self.cache, Room(cache_limit), workers)

    def load(self, seed: int) -> Splits:
        """The splits; `seed` decides the labelling order (and `fraction`), never what is validated or tested on."""
        raw = self._raw()
        found = self.keeping.found(raw, self.name, self.resolution)
        omitted = left_out(raw, found)
        check_readable(found, self.on_bad_image == "skip", self.most_bad_images)
        check_facts(self.expected, found, f"dataset {self.name}")
        settled = self.sharing.settle(*self._carved(found))
        train = self._kept(settled.train, seed)
        check_classes(train.labels, train.names)
        val, test = settled.val, settled.test
        watched = self._watched(found, val, test)
        splits = {"train": train} | {s: images for s, images in (("val", val), ("test", test)) if images is not None}
        place = torch.from_numpy(places(train.labels.numpy(), train.files, seed, "labels"))
        few = self.labels_per_class
        labelled = torch.arange(len(train)) if few is None else torch.nonzero(place < few).flatten()
        say(self.name, splits, labelled)
        mean, std = self._normalisation(train)
        record = self._settings(seed) | {"split_hash": split_hash(splits), "mean": mean, "std": std}
        record |= where(splits, labelled) | omitted | {"shared": settled.pairs}
        count, found_hash = len(train.names), record["split_hash"]
        return Splits(train, val, test, place, labelled, count, mean, std, found_hash, record, watched)

    def _raw(self) -> dict[str, RawSplit]:
        if self.root is None and self.layout == "folder":
            raise ValueError(f"dataset {self.name} as class folders needs dataset.root=FOLDER, the folder they lie in")
        raw = self.source.splits(self.root or self.cache / "downloads")
        if self.merge_validation and "val" in raw:
            return {"train": joined(raw["train"], raw["val"])} | {s: r for s, r in raw.items() if s == "test"}
        return {s: r for s, r in raw.items() if s != "val"} if self.watches_test else raw

    def _carved(self, found: dict[str, Found]) -> tuple[Images, Images | None, Images | None]:
        """Train, val and test; val is the set's own, or carved from train."""
        train, val, test = (found[s].images if s in found else None for s in ("train", "val", "test"))
        assert train is not None, "every source has training images"
        if val is None and self.validation > 0:
            chosen = self._chosen(train, self.validation, self.validation_seed, "validation")
            if not bool(chosen.any()):
                raise ValueError(
                    f"dataset.validation={self.validation:g} of {len(train)} training images is not one image: "
                    "take a larger share, or dataset.validation=none"
                )
            val, train = train.subset(torch.nonzero(chosen).flatten()), train.subset(torch.nonzero(~chosen).flatten())
        return train, val, test

    def _watched(self, found: dict[str, Found], val: Images | None, test: Images | None) -> Validation:
        """What judges during training; ValueError where it should be test images and there are none."""
        if self.watches_test and test is None:
            raise ValueError(f"dataset.validation=test: dataset {self.name} has no test images to judge with")
        if val is None:
            return "test" if self.watches_test else "none"
        return "own" if "val" in found else "carved"

    def _kept(self, train: Images, seed: int) -> Images:
        """The share of the training images that training sees; each class keeps one image at least."""
        if self.fraction == 1:
            return train
        return train.subset(torch.nonzero(~self._chosen(train, 1 - self.fraction, seed, "fraction")).flatten())

    def _chosen(self, images: Images, share: float, seed: int, purpose: str) -> Tensor:
        count = round(share * len(images))
        return torch.from_numpy(stratified(images.labels.numpy(), images.files, count, seed, purpose))

    def _normalisation(self, train: Images) -> tuple[Channels, Channels]:
        mean, std = train.statistics()
        # Images without contrast would otherwise be divided by zero; a grey level is the least that uint8 resolves.
        std = [max(s, 1 / 255) for s in std]
        return three("mean", self.mean or mean), three("std", self.std or std)

    def _settings(self, seed: int) -> dict[str, Any]:
        return {
            "dataset": self.name, "layout": self.layout, "root": str(self.root), "seed": seed,
            "validation": "test" if self.watches_test else self.validation, "validation_seed": self.validation_seed,
            "fraction": self.fraction,
            "merge_validation": self.merge_validation, "labels_per_class": self.labels_per_class,
            "shorter_side": self.resolution.shorter_side, "scaled_jpeg": self.resolution.scaled_jpeg,
        }  # fmt: skip
