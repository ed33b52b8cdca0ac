"""Class folders of image files, as people keep them: `root/dog/1.jpg`, or `root/train/dog/1.jpg` and so on."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smalldata_vit.data.decode import ENDINGS, decode, decode_scaled, header_size, readable
from smalldata_vit.data.sources import Opened, RawSplit, stamp_of

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What folders of splits are called, in lower case."""

_NOT_OURS = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


class Folders:
    """A folder per class, in a folder per split or without one (all of it is training then).

    Images in folders inside a class folder belong to the class. Hidden, empty and non-image things are ignored and
    named; each real file is read once, however many links lead to it. The classes are those of the training images.
    """

    def splits(self, root: Path) -> dict[str, RawSplit]:
        """The splits found below `root`; FileNotFoundError or ValueError says what is wrong with the folder."""
        if not root.is_dir():
            raise FileNotFoundError(f"dataset.root={root} is not a folder; a folder of class folders is expected there")
        found: dict[str, Path] = {}
        for folder in _folders(root):
            split = SPLIT_OF.get(folder.name.lower())
            if split in found:
                raise ValueError(f"{root} has {found[split].name} and {folder.name}, which both mean {split}: keep one")
            if split is not None:
                found[split] = folder
        if not found:
            return {"train": _Tree(root, root).split(None)}
        if "train" not in found:
            raise ValueError(f"{root} has {', '.join(f.name for f in found.values())}, but no folder called train")
        trees = {split: _Tree(root, folder) for split, folder in found.items()}
        if beside := [readable(p.name) for p in sorted(root.iterdir()) if p not in found.values()]:
            trees["train"].ignored["beside the folders of the splits"] = beside
        names = trees["train"].names
        return {split: tree.split(names) for split, tree in trees.items()}


@dataclass(frozen=True)
class LabelledFiles:
    """Image files below a folder, each with its label."""

    root: str
    files: Sequence[str]
    labels: Sequence[int]

    def __call__(self, i: int) -> tuple[np.ndarray, int]:
        """Picture and label of one image."""
        return decode(self._path(i)), self.labels[i]

    def scaled(self, i: int, shorter_side: int) -> tuple[np.ndarray, int]:
        """The same with at most so many pixels on the shorter side, JPEG files decoded for that size."""
        return decode_scaled(self._path(i), shorter_side), self.labels[i]

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of the picture, from the file's header."""
        return header_size(self._path(i))

    def _path(self, i: int) -> Path:
        return Path(self.root, self.files[i])


class _Tree:
    """What lies in the folder of one split."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.ignored: dict[str, list[str]] = defaultdict(list)
        self.of_class: dict[str, list[Path]] = {}
        self.empty: set[str] = set()
        # A link back to any of these must not bring a class, or a split, in under another name.
        above = [root.resolve(), *root.resolve().parents, *(_folders(root) if folder != root else ())]
        self.seen = {_identity(known) for known in above}
        entries = [e for e in sorted(folder.iterdir()) if not self._hidden(e)]
        classes = [e for e in entries if e.is_dir() and self._first_time(e)]
        for entry in entries:
            if not entry.is_dir():
                self._ignore("not in a class folder", entry)
        for entry in classes:
            if files := self._images(entry):
                self.of_class[entry.name] = files
            else:
                self.empty.add(entry.name)

    @property
    def names(self) -> list[str]:
        """The classes that have images, sorted."""
        return sorted(self.of_class)

    def split(self, expected: Sequence[str] | None) -> RawSplit:
        """The images as a split with the expected classes (None: those that are there)."""
        names = self.names if expected is None else list(expected)
        for name in sorted(self.empty):
            self._ignore("folders without an image", self.folder / name)
        there = set(self.of_class) | (self.empty & set(names))
        if not self.of_class:
            raise ValueError(f"{self.folder} has no class folder with an image in it ({', '.join(sorted(ENDINGS))})")
        if there != set(names):
            missing, extra = sorted(set(names) - there), sorted(there - set(names))
            raise ValueError(
                f"{self.folder} and the training images have different classes: "
                f"missing here {_listed(missing)}, only here {_listed(extra)}"
            )
        files = [file for name in names for file in self.of_class.get(name, [])]
        labels = [label for label, name in enumerate(names) for _ in self.of_class.get(name, [])]
        relative = [str(file.relative_to(self.root)) for file in files]
        labelled = LabelledFiles(str(self.root), relative, labels)
        opened = Opened([readable(n) for n in names], [readable(name) for name in relative], labelled, labelled)
        return RawSplit(stamp_of(self.root, files), lambda: opened, dict(self.ignored))

    def _images(self, folder: Path) -> list[Path]:
        """Image files in a class folder and below it, each real file once."""
        found: list[Path] = []
        for entry in sorted(folder.iterdir()):
            if self._hidden(entry):
                continue
            if entry.is_dir():
                found += self._images(entry) if self._first_time(entry) else []
            elif entry.suffix.lower() not in ENDINGS:
                self._ignore("not an image by its name", entry)
            elif self._first_time(entry):
                found.append(entry)
        return found

    def _first_time(self, path: Path) -> bool:
        try:
            identity = _identity(path)
        except OSError:
            return True  # a broken link: the decoder says so
        if identity in self.seen:
            self._ignore("another link to what was read already", path)
            return False
        self.seen.add(identity)
        return True

    def _hidden(self, path: Path) -> bool:
        hidden = path.name.startswith(".") or path.name.lower() in _NOT_OURS
        if hidden:
            self._ignore("hidden, or left by a desktop", path)
        return hidden

    def _ignore(self, reason: str, path: Path) -> None:
        self.ignored[reason].append(readable(os.path.relpath(path, self.root)))


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of one file or folder."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _folders(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _listed(names: list[str]) -> str:
    return ", ".join(readable(n) for n in names) if names else "none"
