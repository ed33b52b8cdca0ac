"""Datasets that torchvision reads and, where the network allows it, downloads."""

import re
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torchvision import datasets
from torchvision.datasets import VisionDataset

from smalldata_vit.data.decode import BadImage, to_rgb
from smalldata_vit.data.sources import Opened, RawSplit, stamp_of
from smalldata_vit.output import Lock

SECONDS_FOR_AN_ANSWER = 20.0

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
    ) -> None:
        if not isinstance(getattr(datasets, dataset, None), type):
            raise ValueError(f"torchvision.datasets has no {dataset}; it has {', '.join(datasets.__all__)}")
        self.dataset, self.arguments, self.files, self.page = dataset, splits, files, page
        self.names, self.download, self.verify = names, download, verify

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """The splits named in the config, after a download if files are missing and one is allowed."""
        if self._missing(root) and self.download:
            self._fetch(root)
        if missing := self._missing(root):
            raise FileNotFoundError(
                self._told(root, missing, "they are not there and dataset.source.download is false")
            )
        present = [p for name in self.files for p in _all_files(root / name)]
        whole = stamp_of(root, present)
        return {
            split: RawSplit(
                f"{whole}:{self.dataset}:{sorted(chosen.items())}:{self.verify}", partial(self.opened, root, chosen)
            )
            for split, chosen in self.arguments.items()
        }

    def opened(self, root: Path, chosen: Mapping[str, object]) -> Opened:
        """One split, read by torchvision."""
        found = self.read(root, chosen)
        words = "-".join(str(v).lower() for v in chosen.values())
        files = [f"{self.dataset}-{words}/{i:06d}" for i in range(len(found))]

        def item(i: int) -> tuple[np.ndarray, int]:
            try:
                image, label = found[i]
            except OSError as error:
                raise BadImage(files[i], str(error)) from error
            return to_rgb(image, files[i]), int(label)

        names = self.names if self.names is not None else found.classes
        return Opened([str(n) for n in names], files, item)

    def read(self, root: Path, chosen: Mapping[str, object]) -> VisionDataset:
        """torchvision's own object for a split; ValueError if the files are not the official ones."""
        found: type[VisionDataset] = getattr(datasets, self.dataset)
        cls = found if self.verify else _without_checksums(found)
        try:
            return cls(str(root), download=False, **chosen)
        # Damaged files make a reader of pickles and .mat files raise whatever it runs into.
        except Exception as error:
            raise ValueError(
                f"torchvision does not read {self.dataset} from {root} ({error}). All expected files are there: "
                f"{', '.join(self.files)}; so one is damaged or not the official one from {self.page}. If that is "
                "meant to be: dataset.source.verify=false, or class folders with dataset.layout=folder"
            ) from error

    def _missing(self, root: Path) -> list[str]:
        return [name for name in self.files if not (root / name).exists()]

    def _fetch(self, root: Path) -> None:
        """Download once, however many processes start together."""
        before = socket.getdefaulttimeout()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with Lock(root / f".{self.dataset}.lock", what=f"the download of {self.dataset}", waits=True):
                socket.setdefaulttimeout(SECONDS_FOR_AN_ANSWER)
                if self._missing(root):
                    for chosen in self.arguments.values():
                        getattr(datasets, self.dataset)(str(root), download=True, **chosen)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(self._told(root, self._missing(root), f"fetching them failed: {error}")) from error
        finally:
            socket.setdefaulttimeout(before)

    def _told(self, root: Path, missing: Sequence[str], why: str) -> str:
        return (
            f"{self.dataset} needs {', '.join(self.files)} in {root}; missing: {', '.join(missing)} ({why}). Get them "
            f"from {self.page}, or name the folder that has them: dataset.root=FOLDER; class folders of images do as "
            "well: dataset.layout=folder dataset.root=FOLDER"
        )


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
