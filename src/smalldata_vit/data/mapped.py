"""A file of pixels that is read as if it were memory; the system keeps as much of it as there is room for."""

import mmap
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

PAGE = mmap.PAGESIZE
WORTH_ASKING = 8 * PAGE
"""Bytes of a picture from which it pays to have it read ahead; less comes with the first of its pages."""


class Mapped:
    """A file of at least one byte, mapped."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Private: a process that writes into its images by mistake changes nobody else's.
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def pixels(self) -> UInt8[Tensor, " bytes"]:
        """All of it."""
        return torch.frombuffer(self.memory, dtype=torch.uint8)

    def read_soon(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Have pieces (begin, bytes) fetched from the disk together, without waiting for them."""
        for begin, size in pieces:
            if size >= WORTH_ASKING:
                page = begin // PAGE * PAGE
                self.memory.madvise(mmap.MADV_WILLNEED, page, begin + size - page)
