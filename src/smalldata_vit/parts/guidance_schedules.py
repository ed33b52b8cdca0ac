"""Schedules of guided training: a weight that goes down to nothing, and a learning rate that changes once an epoch.

Li et al., ECCV 2022, arXiv:2207.10026, keep the weight; Rostand (NTNU, poster) lets it fall to zero over the first 100
of 300 epochs, of unstated shape.
"""

import math
from typing import Literal

from smalldata_vit.schedules import Progress, Schedule


class Decay(Schedule):
    """From `start` at the first step to exactly 0 at the end of the first part of a stage, and 0 from there on.

    With x the share of that part that is done: `linear` is start (1 - x), `cosine` start (1 + cos πx) / 2, `steps`
    start (1 - ⌊x n⌋ / n), that is n = `levels` equally long plateaus, the last at start / n.

    Arguments:
        start: β at the first step; 2.5 in Li et al.
        shape: linear is our choice for the poster's words "decreases progressively".
        until_epoch: where the first part ends, in epochs; 100 on the poster; or
        until_fraction: as a share of the stage; 1/3 on the poster. ValueError unless exactly one of the two is given.
        levels: plateaus of `steps`.
    """

    def __init__(
        self,
        start: float,
        shape: Literal["linear", "cosine", "steps"] = "linear",
        until_epoch: float | None = None,
        until_fraction: float | None = None,
        levels: int = 4,
    ) -> None:
        if (until_epoch is None) == (until_fraction is None):
            raise ValueError(
                f"until_epoch={until_epoch}, until_fraction={until_fraction}: exactly one of them says where the "
                f"weight becomes 0"
            )
        if not (until_epoch is None or until_epoch > 0) or not (until_fraction is None or 0 < until_fraction <= 1):
            raise ValueError(
                f"until_epoch={until_epoch}, until_fraction={until_fraction}: the weight falls over more than no time, "
                f"and a fraction is at most 1"
            )
        if levels < 1:
            raise ValueError(f"levels={levels}: a weight that falls in steps has one plateau at least")
        self.start, self.shape, self.levels = start, shape, levels
        self.until_epoch, self.until_fraction = until_epoch, until_fraction

    def __call__(self, progress: Progress) -> float:
        """β of the step that `progress` counts."""
        if self.until_epoch is not None:
            done = progress.step / (self.until_epoch * progress.steps_per_epoch)
        else:
            done = progress.step / (float(self.until_fraction or 1.0) * progress.total_steps)
        if done >= 1:
            return 0.0
        if self.shape == "linear":
            return self.start * (1 - done)
        if self.shape == "cosine":
            return self.start * 0.5 * (1 + math.cos(math.pi * done))
        return self.start * (1 - math.floor(done * self.levels) / self.levels)


class EpochCosine(Schedule):
    """A cosine from `peak` to `floor` over the stage's epochs, with a linear warm-up in front; constant in an epoch.

    This is timm's CosineLRScheduler by epochs, without `warmup_prefix`, which Li et al. use: behind the warm-up the
    cosine goes on where it would be without one, a little below the peak.

    Arguments:
        peak: of the cosine at epoch 0.
        floor: the cosine's value behind the last epoch.
        warmup_epochs: whole epochs of a straight line from `start` towards `peak`.
        start: the value in the first epoch of the warm-up.
    """

    def __init__(self, peak: float, floor: float = 0.0, warmup_epochs: int = 0, start: float = 0.0) -> None:
        self.peak, self.floor, self.warmup_epochs, self.start = peak, floor, warmup_epochs, start

    def __call__(self, progress: Progress) -> float:
        """The value of the whole epoch that the step is in."""
        epoch = progress.step // progress.steps_per_epoch
        epochs = max(progress.total_steps / progress.steps_per_epoch, 1)
        if epoch < self.warmup_epochs:
            return self.start + (self.peak - self.start) * epoch / self.warmup_epochs
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
