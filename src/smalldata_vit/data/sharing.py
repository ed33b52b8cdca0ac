"""The same picture in two splits: found by a hash of the decoded pixels, told, and dropped where that is asked for."""

import logging
from dataclasses import dataclass, field

import numpy as np
import torch

from smalldata_vit.data.images import Images

log = logging.getLogger(__name__)

NAMED = 3
"""Pairs that a message names; the record names all."""


@dataclass
class Settled:
    """The splits after the rule was applied, and by pair of splits the pairs of files that are one picture."""

    train: Images
    val: Images | None
    test: Images | None
    pairs: dict[str, list[list[str]]] = field(default_factory=dict)


class Sharing:
    """What happens to pictures that two splits share.

    Arguments:
        most: share of the judged images (val or test) that may be in another split; more is an error.
        drop: leave them out of training (of val, where val and test share them), whatever their number.
    """

    def __init__(self, most: float, drop: bool) -> None:
        self.most, self.drop = most, drop

    def settle(self, train: Images, val: Images | None, test: Images | None) -> Settled:
        """Apply the rule; ValueError names the first pairs when too many pictures are shared."""
        settled = Settled(train, val, test)
        if settled.test is not None and settled.val is not None:
            settled.val = self._without(settled, settled.val, settled.test, "val", "test")
        for name in ("val", "test"):
            judged = settled.val if name == "val" else settled.test
            if judged is not None:
                settled.train = self._without(settled, settled.train, judged, "train", name)
        return settled

    def _without(self, settled: Settled, images: Images, judged: Images, name: str, judged_name: str) -> Images:
        pairs = shared(images, judged)
        if not pairs:
            return images
        named = [[images.files[i], judged.files[j]] for i, j in pairs]
        settled.pairs[f"{name}/{judged_name}"] = named
        some = "; ".join(f"{a} = {b}" for a, b in named[:NAMED])
        count = len({j for _, j in pairs})
        told = f"{count} of {len(judged)} {judged_name} images are {name} images as well, pixel by pixel ({some})"
        if self.drop:
            gone = {i for i, _ in pairs}
            log.warning("%s; %d are left out of %s", told, len(gone), name)
            return images.subset(torch.tensor([i for i in range(len(images)) if i not in gone], dtype=torch.int64))
        if count > self.most * len(judged):
            raise ValueError(
                f"{told}: more than dataset.most_shared={self.most:g} allows, and results would be too good. Remove "
                f"them, or leave them out of {name} with dataset.drop_shared=true"
            )
        log.warning("%s; dataset.drop_shared=true leaves them out of %s", told, name)
        return images


def shared(first: Images, second: Images) -> list[tuple[int, int]]:
    """Places (i, j) of equal pictures: for each image of `second` that `first` has, every i that has it."""
    ones, others = first.digests.numpy(), second.digests.numpy()
    # Half a digest finds the few candidates fast; the whole one decides.
    half, other_half = (np.ascontiguousarray(d[:, :8]).view(np.uint64).ravel() for d in (ones, others))
    where: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(np.isin(half, other_half)).tolist():
        where.setdefault(ones[i].tobytes(), []).append(i)
    candidates = np.flatnonzero(np.isin(other_half, half)).tolist()
    return [(i, j) for j in candidates for i in where.get(others[j].tobytes(), ())]
