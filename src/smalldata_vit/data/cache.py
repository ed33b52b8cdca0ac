"""From files to images: decoded once into a file that every rank, stage and job maps, or looked at and decoded anew."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import ENOSPC
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smalldata_vit.atomic import remove_unfinished, replaced
from smalldata_vit.console import console
from smalldata_vit.data.images import Images
from smalldata_vit.data.mapped import Mapped
from smalldata_vit.data.reading import DIGEST_BYTES, read
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.room import Room, stated_bytes, writable
from smalldata_vit.data.sources import RawSplit
from smalldata_vit.data.streaming import Stream
from smalldata_vit.data.workers import Workers
from smalldata_vit.output import Lock

log = logging.getLogger(__name__)

FORMAT = 2
"""Version of what `index.json` and `pixels.bin` hold; files of another one are not looked at."""


@dataclass(frozen=True)
class Found:
    """A split in memory, and the images that could not be read: name to reason."""

    images: Images
    bad: dict[str, str]


def in_memory(raw: RawSplit, name: str, folder: Path, resolution: Resolution | None, room: Room | None = None) -> Found:
    """The split's images; decoded into a file below `folder` unless the split is too small to be worth one.

    name: of dataset and split, for messages and as part of the file's name.
    resolution: in which they are kept; None: as they are.
    room: what the file may take on the disk; None: all there is.
    """
    resolution, room = resolution or Resolution(), room or Room(None)
    if raw.stamp is None:
        pieces: list[bytes] = []
        index = read(raw.open(), None, resolution, pieces.append)
        return _found(index, torch.from_numpy(np.frombuffer(bytearray(b"".join(pieces)), dtype=np.uint8)))
    return _made_once(raw.stamp, name, folder, resolution, _kept, partial(_write, raw, name, resolution, room))


def streamed(raw: RawSplit, name: str, folder: Path, resolution: Resolution, workers: Workers) -> Found:
    """The split's images, decoded by `workers` each time they are asked for; those of a tiny split lie in memory.

    All are decoded once before, to learn their sizes, digests and sums and which cannot be read, and that is kept
    below `folder`; so whatever follows from the images is the same as if they lay in memory.
    """
    if raw.stamp is None:
        return in_memory(raw, name, folder, resolution)
    found = _made_once(raw.stamp, name, folder, resolution, _looked_at, partial(_look, raw, name, resolution))
    opened = raw.open()
    good = torch.tensor([i for i, file in enumerate(opened.files) if file not in found.bad], dtype=torch.int64)
    stream = Stream(workers, workers.add(resolution.reader(opened)))
    return replace(found, images=replace(found.images, stream=stream, offsets=good))


def _made_once(
    stamp: str,
    name: str,
    folder: Path,
    resolution: Resolution,
    kept: Callable[[Path], Found | None],
    make: Callable[[Path], None],
) -> Found:
    """What an earlier process made, or what `make` makes, once, however many processes want it."""
    key = hashlib.sha256(f"{FORMAT}:{resolution.key}:{stamp}".encode()).hexdigest()[:20]
    entry = f"images/{name}-{key}"
    if (found := kept(folder / entry)) is not None:
        return found
    place = writable(folder) / entry
    with Lock(place / ".lock", what=f"the decoding of {name}", waits=True):
        if (found := kept(place)) is None:
            remove_unfinished(place)
            make(place)
            found = kept(place)
    if found is None:
        raise OSError(f"{place} was written and cannot be read back; remove it or choose another dataset.cache")
    return found


def _write(raw: RawSplit, name: str, resolution: Resolution, room: Room, place: Path) -> None:
    opened = raw.open()
    room.check(f"the decoded images of {name}", len(opened.files), stated_bytes(opened, resolution), place)
    try:
        with replaced(place / "pixels.bin") as file:
            index = read(opened, name, resolution, file.write)
        # The index comes last: where it is, the pixels are whole.
        _write_index(index, place)
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise OSError(
            ENOSPC, f"no space left in {place} for the decoded images of {name}: choose another place with "
            "dataset.cache=FOLDER, store them smaller with dataset.shorter_side=PIXELS, or keep them nowhere with "
            "dataset.decoded=stream"
        ) from error  # fmt: skip


def _look(raw: RawSplit, name: str, resolution: Resolution, place: Path) -> None:
    opened = raw.open()
    told = f"{name}: {len(opened.files):,} images are decoded once to learn what they are; no pixel is kept"
    console().print(told, markup=False)
    _write_index(read(opened, name, resolution, len), place)


def _write_index(index: dict[str, Any], place: Path) -> None:
    with replaced(place / "index.json") as file:
        file.write(json.dumps(index).encode())


def _kept(place: Path) -> Found | None:
    """What an earlier process decoded, or None if there is nothing whole."""
    try:
        index = json.loads((place / "index.json").read_bytes())
        size = (place / "pixels.bin").stat().st_size
    except (OSError, ValueError):
        return None
    if size != index["bytes"]:
        return None
    if size == 0:
        return _found(index, torch.empty(0, dtype=torch.uint8))
    mapped = Mapped(place / "pixels.bin")
    found = _found(index, mapped.pixels())
    return replace(found, images=replace(found.images, mapped=mapped))


def _looked_at(place: Path) -> Found | None:
    """What is known of images that an earlier process decoded, whether or not it kept them."""
    try:
        index = json.loads((place / "index.json").read_bytes())
    except (OSError, ValueError):
        return None
    return _found(index, torch.empty(0, dtype=torch.uint8))


def _found(index: dict[str, Any], pixels: torch.Tensor) -> Found:
    heights, widths, labels, moments = (
        _numbers(index[name], "<i8") for name in ("heights", "widths", "labels", "moments")
    )
    sizes = 3 * heights * widths
    images = Images(
        pixels=pixels,
        offsets=sizes.cumsum(0) - sizes,
        heights=heights,
        widths=widths,
        labels=labels,
        digests=_numbers(index["digests"], "u1").view(-1, DIGEST_BYTES),
        moments=moments.view(-1, 2, 3),
        names=index["names"],
        files=index["files"],
    )
    return Found(images, index["bad"])


def _numbers(text: str, kind: str) -> torch.Tensor:
    """Numbers that were written as hexadecimal digits: JSON takes ten times as long to read as many decimal ones."""
    return torch.from_numpy(np.frombuffer(bytearray.fromhex(text), dtype=kind))
