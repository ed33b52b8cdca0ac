"""From files to images in memory: decoded once, kept in a file that every rank, stage and job maps."""

import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from errno import ENOSPC
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smalldata_vit.atomic import remove_unfinished, replaced
from smalldata_vit.console import Reporter
from smalldata_vit.data.decode import POLICY, BadImage, shrunk
from smalldata_vit.data.images import Images
from smalldata_vit.data.sources import Opened, RawSplit
from smalldata_vit.output import Lock

log = logging.getLogger(__name__)

CHUNK = 256
"""Images that are decoded before the next ones are asked for: bounds the memory that waits to be written."""
DIGEST_BYTES = 16


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
        index = _decoded(raw.open(), None, shorter_side, pieces.append)
        return _found(index, torch.frombuffer(bytearray(b"".join(pieces)), dtype=torch.uint8))
    key = hashlib.sha256(f"{POLICY}:{shorter_side}:{raw.stamp}".encode()).hexdigest()[:20]
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
            index = _decoded(raw.open(), name, shorter_side, file.write)
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
    except (FileNotFoundError, ValueError):
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


@dataclass(frozen=True)
class _Decoded:
    pixels: bytes
    height: int
    width: int
    label: int
    digest: bytes
    moments: tuple[np.ndarray, np.ndarray]


def _decoded(
    opened: Opened, name: str | None, shorter_side: int | None, write: Callable[[bytes], Any]
) -> dict[str, Any]:
    """Hand the pixels of all images to `write`, in order, and return the index; progress is shown if it has a name."""
    good: list[_Decoded] = []
    files, bad, size = [], {}, 0
    for file, one in zip(opened.files, _in_order(opened, name, shorter_side), strict=True):
        if isinstance(one, BadImage):
            bad[file] = one.reason
            continue
        if not 0 <= one.label < len(opened.names):
            raise ValueError(f"{file} has label {one.label}, but there are {len(opened.names)} classes")
        write(one.pixels)
        size += len(one.pixels)
        files.append(file)
        good.append(replace(one, pixels=b""))
    columns = {"heights": "height", "widths": "width", "labels": "label", "moments": "moments"}
    numbers = {c: np.array([getattr(o, f) for o in good], dtype="<i8").tobytes().hex() for c, f in columns.items()}
    digests = b"".join(one.digest for one in good).hex()
    return {"names": list(opened.names), "files": files, "bad": bad, "bytes": size, "digests": digests, **numbers}


def _in_order(opened: Opened, name: str | None, shorter_side: int | None) -> Iterator[_Decoded | BadImage]:
    reporter = None if name is None else Reporter(len(opened.files), "image", f"decoding {name}")
    # Pillow warns of oddities in files that it reads well; threads share one list of filters, so it is set out here.
    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        warnings.simplefilter("ignore")
        try:
            for first in range(0, len(opened.files), CHUNK):
                last = min(first + CHUNK, len(opened.files))
                yield from pool.map(partial(_one, opened, shorter_side), range(first, last))
                if reporter is not None:
                    reporter.advance(last, {})
        finally:
            if reporter is not None:
                reporter.close()


def _one(opened: Opened, shorter_side: int | None, i: int) -> _Decoded | BadImage:
    try:
        picture, label = opened.item(i)
    except BadImage as error:
        return error
    if shorter_side is not None:
        picture = shrunk(picture, shorter_side)
    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture).tobytes()
    digest = hashlib.blake2b(f"{height}x{width}:".encode() + pixels, digest_size=DIGEST_BYTES).digest()
    values = picture.reshape(-1, 3)
    sums = values.sum(0, dtype=np.int64), np.square(values, dtype=np.uint32).sum(0, dtype=np.int64)
    return _Decoded(pixels, height, width, label, digest, sums)
