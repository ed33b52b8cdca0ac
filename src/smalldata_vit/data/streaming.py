"""Images that are decoded anew each time they are asked for, by other processes."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from smalldata_vit.data.workers import Wanted, Workers


@dataclass(frozen=True, eq=False)
class Stream:
    """Decodes the images of one split.

    Arguments:
        workers: that do it.
        reader: the split's number there.
    """

    workers: Workers
    reader: int

    def pictures(self, facts: Sequence[Sequence[int]], files: Sequence[str]) -> list[UInt8[Tensor, "_ _ 3"]]:
        """Pictures side by side in one piece of memory; `facts` has place in the split, height and width of each."""
        if not facts:
            return []
        sizes = [3 * height * width for _, height, width in facts]
        begins = list(itertools.accumulate(sizes, initial=0))
        each = zip(facts, begins, files, strict=False)
        wanted = [Wanted(i, begin, height, width, file) for (i, height, width), begin, file in each]
        memory = torch.frombuffer(self.workers.read(self.reader, wanted, begins[-1]), dtype=torch.uint8)
        pieces = memory.split(sizes)
        return [piece.view(height, width, 3) for piece, (_, height, width) in zip(pieces, facts, strict=True)]
