"""From files to images in memory: decoded once, kept in a file that every rank, stage and job maps."""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smalldata_vit.atomic import remove_unfinished, replaced
from smalldata_vit.data.decode import POLICY
from smalldata_vit.data.images import Images
from smalldata_vit.data.reading import DIGEST_BYTES, read
from smalldata_vit.data.sources import RawSplit
from smalldata_vit.output import Lock

log = logging.getLogger(__name__)

FORMAT = 2
"""Version of what `index.json` and `pixels.bin` hold; files of another one are not looked at."""


@dataclass(frozen=True)
class Found:
    """A split in memory, and the images that could not be read: name to reason."""

    images: Images
    bad: dict[str, str]


def in_memory(raw: RawSplit, name: str, folder: Path, shorter_side: int | None) -> Found:
    """The split's images; decoded into a file below `folder` unless the split is too small to be worth one.

    name: of dataset and split, for messages and as part of the file's name.
    shorter_side: larger images are stored with this many pixels there; None: as they are.
    """
    if raw.stamp is None:
        pieces: list[bytes] = []
        index = read(raw.open(), None, shorter_side, pieces.append)
        return _found(index, torch.from_numpy(np.frombuffer(bytearray(b"".join(pieces)), dtype=np.uint8)))
    key = hashlib.sha256(f"{FORMAT}:{POLICY}:{shorter_side}:{raw.stamp}".encode()).hexdigest()[:20]
    entry = f"images/{name}-{key}"
    if (kept := _kept(folder / entry)) is not None:
        return kept
    place = writable(folder) / entry
    with Lock(place / ".lock", what=f"the decoding of {name}", waits=True):
        if (kept := _kept(place)) is None:
            remove_unfinished(place)
            _write(raw, name, shorter_side, place)
            kept = _kept(place)
    if kept is None:
        raise OSError(f"{place} was written and cannot be read back; remove it or choose another dataset.cache")
    return kept


def writable(folder: Path) -> Path:
    """The folder if files can be made in it, else one of our own for temporary files, said in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        instead = Path(tempfile.gettempdir()) / f"smalldata-vit-{os.getuid()}"
        instead.mkdir(mode=0o700, exist_ok=True)
        if instead.stat().st_uid != os.getuid():
            raise PermissionError(
                f"{folder} cannot be written and {instead} is somebody else's: dataset.cache=FOLDER"
            ) from error
        log.warning(
            "%s cannot be written (%s); decoded images go to %s instead. dataset.cache=FOLDER chooses another place",
            folder, error.strerror, instead,
        )  # fmt: skip
        return instead


def _write(raw: RawSplit, name: str, shorter_side: int | None, place: Path) -> None:
    try:
        with replaced(place / "pixels.bin") as file:
            index = read(raw.open(), name, shorter_side, file.write)
        # The index comes last: where it is, the pixels are whole.
        with replaced(place / "index.json") as file:
            file.write(json.dumps(index).encode())
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise OSError(
            ENOSPC, f"no space left in {place} for the decoded images of {name}: choose another place with "
            "dataset.cache=FOLDER, or store them smaller with dataset.shorter_side=PIXELS"
        ) from error  # fmt: skip


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
    # Private: a process that writes into its images by mistake changes nobody else's.
    return _found(index, torch.from_file(str(place / "pixels.bin"), shared=False, size=size, dtype=torch.uint8))


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
