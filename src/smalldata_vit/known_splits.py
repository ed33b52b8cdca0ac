"""The splits' hash of a dataset whose files are as they were when it was loaded, without loading it again.

Reading the images takes seconds and needs torch; whether a finished stage still holds is asked before either.
"""

import hashlib
import json
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from smalldata_vit.atomic import replaced
from smalldata_vit.data.sources import cache_folder

READERS = ("torch", "torchvision", "numpy", "pillow", "scikit-learn")
"""Packages that have a part in what pixels a file becomes."""
SETTLED = 2.0
"""Seconds that a file must have been left alone: a second change within one tick of the clock leaves no trace."""
_DESCRIBED = {"source", "layout", "root", "cache"}
_DIGEST = re.compile(r"[0-9a-f]{64}")

Config = Mapping[str, Any]


@runtime_checkable
class HasHash(Protocol):
    """What loading a dataset gives."""

    @property
    def split_hash(self) -> str:
        """Of the images and labels of all splits."""


S = TypeVar("S", bound=HasHash)


def remembering(config: Config, load: Callable[[Config], S]) -> S:
    """What `load` makes of a stage's config; its hash is kept for `recalled` if no file changed meanwhile."""
    before = inputs_of(config, time.time())
    splits = load(config)
    if before is not None and before == inputs_of(config, time.time()):
        # Without a place to write, the next command loads the images again.
        with suppress(OSError):
            place = _place(config, before)
            place.parent.mkdir(parents=True, exist_ok=True)
            with replaced(place) as file:
                file.write(json.dumps(splits.split_hash).encode())
    return splits


def recalled(config: Config) -> str | None:
    """The hash of the splits that a stage's config would load; None if only loading them can tell."""
    inputs = inputs_of(config, time.time())
    if inputs is None:
        return None
    try:
        found = json.loads(_place(config, inputs).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) and _DIGEST.fullmatch(found) else None


def inputs_of(config: Config, now: float) -> str | None:
    """sha256 of all that decides a stage's splits; None where that cannot be known, or files were changed just `now`.

    It covers the dataset's settings and the seed, our own source, the versions of what reads images, and of every file
    below the dataset's places its name, size, inode, times of change and permissions. An inode's time of change is the
    system's own: no tool that copies or unpacks files puts it back.
    """
    places = places_of(config["dataset"])
    if places is None:
        return None
    settings = json.dumps([config["dataset"], config["seed"]], sort_keys=True)
    versions = [f"{name} {version(name)}" for name in READERS]
    digest = hashlib.sha256("\n".join([settings, platform.python_version(), *versions, _source()]).encode())
    try:
        for path, facts in (found for place in places for found in _entries(place, frozenset())):
            if facts is not None and facts.st_ctime > now - SETTLED:
                return None
            digest.update(b"\x00" + os.fsencode(path) + b"\x00" + _told(facts).encode())
    except OSError:
        return None
    return digest.hexdigest()


def places_of(dataset: Config) -> list[Path] | None:
    """Files and folders that a dataset of ours is read from; None if it is not ours, so that nobody here can know.

    A source that names its files is read from those, any other from all of the folder that it is given.
    """
    if not set(dataset) >= _DESCRIBED or not all(target.startswith("smalldata_vit.") for target in _targets(dataset)):
        return None
    root = cache_folder(dataset["cache"]) / "downloads" if dataset["root"] is None else Path(dataset["root"])
    names = dataset["source"].get("files") if dataset["layout"] == "official" else None
    root = root.expanduser().absolute()
    lists = dataset["source"].get("lists") if dataset["layout"] == "official" else None
    chosen = lists.get("chosen") if lists else None
    also = [Path(chosen).expanduser().absolute()] if chosen else []
    return [root, *also] if names is None else [*(root / name for name in names), *also]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        for inner in node.values():
            yield from _targets(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _targets(inner)


def _entries(path: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[Path, os.stat_result | None]]:
    """A file, or a folder (None) and all below it in a fixed order; links are followed. None too for what is not there.

    above: device and inode of the folders on the way, which a link may lead back to.
    """
    try:
        facts = path.stat()
    except FileNotFoundError:
        yield path, None
        return
    folder, identity = stat.S_ISDIR(facts.st_mode), (facts.st_dev, facts.st_ino)
    yield path, (None if folder else facts)
    if folder and identity not in above:
        for entry in sorted(path.iterdir()):
            yield from _entries(entry, above | {identity})


def _told(facts: os.stat_result | None) -> str:
    if facts is None:
        return "-"
    return f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}:{facts.st_dev}:{facts.st_ino}:{facts.st_mode}"


def _source() -> str:
    """sha256 of this package's files."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _place(config: Config, inputs: str) -> Path:
    return cache_folder(config["dataset"]["cache"]) / "splits" / f"{inputs}.json"
