"""How long a stage is and how its images are dealt out: a function of (seed, step)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from smalldata_vit import randomness
from smalldata_vit.schedules import Progress


@dataclass(frozen=True)
class Course:
    """The length of a stage and how its images are dealt out.

    Arguments:
        images: training images of the stage.
        batch_size: images in a global batch, at most `images`.
        pass_size: images in one forward; None: one pass a device, its share of the global batch.
        total_steps: optimizer steps of the whole stage.
        drop_last: whether an epoch leaves out the images that do not fill a batch.
        passes_per_epoch: how often an epoch shows each image (Gani's fine-tuning: 3).
        max_batch: most images in one forward where there is no `pass_size`: a device's share is cut further, which
            changes nothing but the order of sums. None: no limit.
    """

    images: int
    batch_size: int
    pass_size: int | None
    total_steps: int
    drop_last: bool = True
    passes_per_epoch: int = 1
    max_batch: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return steps_per_epoch(self.images, self.batch_size, self.drop_last, self.passes_per_epoch)

    def progress(self, step: int) -> Progress:
        """How far the stage is when `step` steps were taken."""
        return Progress(step, self.total_steps, self.steps_per_epoch)

    def order(self, seed: int, step: int) -> np.ndarray:
        """Places in the training set of the global batch of this step, int64 (batch,)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        first, last = within * self.batch_size, (within + 1) * self.batch_size
        rounds = range(first // self.images, min(-(-last // self.images), self.passes_per_epoch))
        dealt = [dealt_order(seed, epoch * self.passes_per_epoch + r, self.images) for r in rounds]
        skipped = rounds.start * self.images
        return np.concatenate(dealt)[first - skipped : last - skipped]


@lru_cache(maxsize=4)
def dealt_order(seed: int, number: int, images: int) -> np.ndarray:
    """The order of a round, int64 (images,), not to be written to; kept, as every step of it asks."""
    order = randomness.permutation(seed, number, images)
    order.flags.writeable = False
    return order


def steps_per_epoch(images: int, batch_size: int, drop_last: bool, passes: int = 1) -> int:
    """Whole batches in `passes` rounds over the images, the ragged last one counted unless it is dropped."""
    shown = images * passes
    return max(shown // batch_size, 1) if drop_last else -(-shown // batch_size)


def cut(images: int, pass_size: int | None, ranks: int, rank: int, most: int | None = None) -> list[slice]:
    """The places of a global batch that this rank sends through each of its forwards, in order.

    `most`: images in one forward where there is no `pass_size`.
    """
    if pass_size is None:
        start, stop = images * rank // ranks, images * (rank + 1) // ranks
        most = most or max(stop - start, 1)
        return [slice(first, min(first + most, stop)) for first in range(start, stop, most)]
    passes = [slice(first, min(first + pass_size, images)) for first in range(0, images, pass_size)]
    bounds = [len(passes) * r // ranks for r in range(ranks + 1)]
    return passes[bounds[rank] : bounds[rank + 1]]
