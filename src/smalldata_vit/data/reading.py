"""Images read one after the other by a few threads: their pixels go to a writer, what is known of them to an index."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from smalldata_vit.console import Reporter
from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.resolution import Reader, Resolution
from smalldata_vit.data.sources import Opened

CHUNK = 256
"""Images that are decoded before the next ones are asked for: bounds the memory that waits to be written."""
DIGEST_BYTES = 16


@dataclass(frozen=True)
class _Decoded:
    pixels: bytes
    height: int
    width: int
    label: int
    digest: bytes
    moments: tuple[np.ndarray, np.ndarray]


def read(opened: Opened, name: str | None, resolution: Resolution, write: Callable[[bytes], Any]) -> dict[str, Any]:
    """Hand the pixels of all images to `write`, in order, and return the index; progress is shown if it has a name."""
    good: list[_Decoded] = []
    files, bad, size = [], {}, 0
    for file, one in zip(opened.files, _in_order(opened, name, resolution.reader(opened)), strict=True):
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


def _in_order(opened: Opened, name: str | None, reader: Reader) -> Iterator[_Decoded | BadImage]:
    reporter = None if name is None else Reporter(len(opened.files), "image", f"decoding {name}")
    # Pillow warns of oddities in files that it reads well; threads share one list of filters, so it is set out here.
    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        warnings.simplefilter("ignore")
        try:
            for first in range(0, len(opened.files), CHUNK):
                last = min(first + CHUNK, len(opened.files))
                yield from pool.map(partial(_one, reader), range(first, last))
                if reporter is not None:
                    reporter.advance(last, {})
        finally:
            if reporter is not None:
                reporter.close()


def _one(reader: Reader, i: int) -> _Decoded | BadImage:
    try:
        picture, label = reader(i)
    except BadImage as error:
        return error
    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture).tobytes()
    digest = hashlib.blake2b(f"{height}x{width}:".encode() + pixels, digest_size=DIGEST_BYTES).digest()
    values = picture.reshape(-1, 3)
    sums = values.sum(0, dtype=np.int64), np.square(values, dtype=np.uint32).sum(0, dtype=np.int64)
    return _Decoded(pixels, height, width, label, digest, sums)
