"""Datasets that torchvision reads and, where the network allows it, downloads."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torchvision import datasets
from torchvision.datasets import VisionDataset

from smalldata_vit.data.decode import BadImage, readable, to_rgb
from smalldata_vit.data.folders import LabelledFiles
from smalldata_vit.data.published import Published
from smalldata_vit.data.sources import Opened, RawSplit, stamp_of

_MD5 = re.compile(r"[0-9a-f]{32}")


class Torchvision:
    """A dataset of `torchvision.datasets`.

    Arguments:
        dataset: the class there, for example `CIFAR10`.
        splits: by split, the arguments that its class takes for it: `{train: {train: true}, test: {train: false}}`.
        files: what must lie below the root once it is there; folders end in `/`.
        page: where a person finds these files.
        names: of the classes, where torchvision does not know them.
        download: whether to fetch what is missing.
        verify: whether files must have the official checksums. Without it, CIFAR's pickles are opened whoever made
            them, and a pickle can run code: for files of your own only.
        options: arguments that the class takes for every split: `{partition: 1}`.
        archives: what torchvision downloads before it unpacks, below the root; one that lies there is not fetched.
        by_file: whether the class lists image files and takes a `loader`. They are read by our decoder then, and keep
            their names; else torchvision reads them and they are called by their number.
    """

    def __init__(
        self,
        dataset: str,
        splits: Mapping[str, Mapping[str, object]],
        files: Sequence[str],
        page: str,
        names: Sequence[str] | None,
        download: bool,
        verify: bool,
        options: Mapping[str, object] | None = None,
        archives: Sequence[str] = (),
        by_file: bool = False,
    ) -> None:
        if not isinstance(getattr(datasets, dataset, None), type):
            raise ValueError(f"torchvision.datasets has no {dataset}; it has {', '.join(datasets.__all__)}")
        self.published = Published(dataset, files, page)
        self.dataset, self.names, self.download, self.verify = dataset, names, download, verify
        self.arguments = {split: {**(options or {}), **chosen} for split, chosen in splits.items()}
        self.archives, self.by_file = archives, by_file

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """The splits named in the config, after a download if files are missing and one is allowed."""
        archives = {name: root / name for name in self.archives}
        self.published.settle(root, self._fetch if self.download else None, archives)
        present = [p for name in self.published.files for p in _all_files(root / name)]
        whole = stamp_of(root, present)
        return {
            split: RawSplit(
                f"{whole}:{self.dataset}:{sorted(chosen.items())}:{self.verify}:{self.by_file}",
                partial(self.opened, root, chosen),
            )
            for split, chosen in self.arguments.items()
        }

    def opened(self, root: Path, chosen: Mapping[str, object]) -> Opened:
        """One split, as torchvision lists it."""
        found = self.read(root, chosen)
        names = [str(n) for n in (self.names if self.names is not None else found.classes)]
        images = range(len(found))
        if not self.by_file:
            words = "-".join(str(v).lower() for v in chosen.values())
            files = [f"{self.dataset}-{words}/{i:06d}" for i in images]
            return Opened(names, files, _Items(found, files))
        paths, labels = zip(*(found[i] for i in images), strict=True)
        files = [os.path.relpath(path, root) for path in paths]
        self.published.refuse_gaps(root, files)
        labelled = LabelledFiles(str(root), files, [int(label) for label in labels])
        return Opened(names, [readable(file) for file in files], labelled, labelled)

    def read(self, root: Path, chosen: Mapping[str, object]) -> VisionDataset:
        """torchvision's own object for a split; ValueError if the files are not the official ones."""
        official: type[VisionDataset] = getattr(datasets, self.dataset)
        cls = official if self.verify else _without_checksums(official)
        loader = {"loader": os.fspath} if self.by_file else {}
        try:
            found = cls(str(root), download=False, **loader, **chosen)
        # Damaged files make a reader of pickles and .mat files raise whatever it runs into.
        except Exception as error:
            raise ValueError(
                f"torchvision does not read {self.dataset} from {root} ({error}). All expected files are there: "
                f"{', '.join(self.published.files)}; so one is damaged or not the official one from "
                f"{self.published.page}. If that is meant to be: dataset.source.verify=false, or class folders with "
                "dataset.layout=folder"
            ) from error
        # Checksums are behind us; only an object of a class that has a place in a module can go to another process.
        found.__class__ = official
        return found

    def _fetch(self, folder: Path) -> Path:
        for chosen in self.arguments.values():
            getattr(datasets, self.dataset)(str(folder), download=True, **chosen)
        return folder


@dataclass(frozen=True)
class _Items:
    """Images that torchvision reads, each with its label."""

    found: VisionDataset
    files: Sequence[str]

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        try:
            image, label = self.found[i]
        # Pillow's plug-ins raise whatever their parsing runs into; all of it means that this file is no image.
        except Exception as error:
            raise BadImage(self.files[i], f"{error} ({type(error).__name__})") from error
        return to_rgb(image, self.files[i]), int(label)


def _without_checksums(cls: type[VisionDataset]) -> type[VisionDataset]:
    """The class with no checksum to compare with, wherever torchvision's classes keep them."""
    places = ("train_list", "test_list", "meta", "split_list", "_file_dict")
    kept = {name: _stripped(getattr(cls, name)) for name in places if name in dir(cls)}
    return type(cls.__name__, (cls,), kept)


def _stripped(value: object) -> object:
    if isinstance(value, str):
        return None if _MD5.fullmatch(value) else value
    if isinstance(value, Mapping):
        return {name: _stripped(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_stripped(part) for part in value)
    return value


def _all_files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
