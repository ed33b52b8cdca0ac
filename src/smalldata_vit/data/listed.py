"""Datasets whose images lie in files and whose splits and labels a small function reads from lists or folders."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torchvision.datasets.utils import download_url, extract_archive

from smalldata_vit.data.decode import readable
from smalldata_vit.data.folders import LabelledFiles
from smalldata_vit.data.published import Published
from smalldata_vit.data.sources import Opened, RawSplit, stamp_of


@dataclass(frozen=True)
class Lists:
    """Which image is in which split and what it shows."""

    names: Sequence[str]
    """Of the classes."""
    splits: Mapping[str, Sequence[tuple[str, int]]]
    """By split (`train`, `val`, `test`): of each image its file, below the dataset's folder, and its label."""


class Listed:
    """A dataset in files, read by our decoder.

    Arguments:
        name: in messages.
        folder: what its folder is usually called; the root may be this folder or the one that it lies in.
        parts: what must be in it; folders end in `/`.
        page: where a person finds it.
        downloads: address of each file to download, and its MD5 (null where its authors publish none).
        download: whether to fetch what is missing.
        lists: reads splits and labels in the folder; its errors are sentences.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        parts: Sequence[str],
        page: str,
        downloads: Mapping[str, str | None],
        download: bool,
        lists: Callable[[Path], Lists],
    ) -> None:
        self.published = Published(name, parts, page)
        self.folder, self.downloads, self.lists = folder, downloads, lists
        self.download = download and len(downloads) > 0

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """The splits that `lists` finds, after a download if files are missing and one is allowed."""
        home = self._home(root)
        archives = {Path(address).name: root / Path(address).name for address in self.downloads}
        why = "dataset.source.download is false" if self.downloads else "no program can fetch them"
        self.published.settle(home, self._fetch if self.download else None, archives, why)
        found = self.lists(home)
        return {
            split: RawSplit(self._stamp(home, found, images), partial(self._opened, home, found.names, images))
            for split, images in found.splits.items()
        }

    def _home(self, root: Path) -> Path:
        """The folder called `folder` below the root, or the root where the parts lie in it."""
        inside, parts = root / self.folder, self.published.files
        here = not parts or any((root / part).exists() for part in parts)
        return root if here and not inside.is_dir() else inside

    def _fetch(self, folder: Path) -> Path:
        for address, md5 in self.downloads.items():
            download_url(address, folder, md5=md5)
            if not address.endswith(".txt"):
                extract_archive(folder / Path(address).name, folder)
        return self._home(folder)

    def _stamp(self, home: Path, found: Lists, images: Sequence[tuple[str, int]]) -> str:
        labels = hashlib.sha256(json.dumps([list(found.names), [label for _, label in images]]).encode()).hexdigest()
        return f"{stamp_of(home, [home / file for file, _ in images])}:{labels}"

    def _opened(self, home: Path, names: Sequence[str], images: Sequence[tuple[str, int]]) -> Opened:
        files = [file for file, _ in images]
        self.published.refuse_gaps(home, files)
        labelled = LabelledFiles(str(home), files, [label for _, label in images])
        return Opened([readable(n) for n in names], [readable(file) for file in files], labelled, labelled)


def rows(path: Path, columns: int, separator: str | None = None) -> list[list[str]]:
    """The first words of each line that is not empty; ValueError names a line with fewer than `columns` words."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.strip().split(separator)
        if line.strip() and len(words) < columns:
            raise ValueError(f"{path}, line {number}, has {len(words)} of {columns} words: {line.strip()!r}")
        if line.strip():
            found.append(words[:columns])
    return found
