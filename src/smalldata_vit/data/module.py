"""What a stage trains on, step by step: a function of (seed, step), drawn ahead in a thread, cut into passes."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from smalldata_vit import distributed, randomness
from smalldata_vit.contracts import Drawn, ImageSet, Pictures, Ragged, Views
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


@dataclass(frozen=True)
class Pass:
    """What goes through one forward: which images, with which random choices, and how much they count."""

    index: Int[Tensor, " B"]
    drawn: Drawn
    seed: int
    weight: float
    """The images of this pass over those of the step; 0 for a stand-in that only keeps ranks together."""
    place: int
    """Place of its first image in the global batch."""
    total: int | None
    """Images in the global batch when masks are drawn for all of it (no `pass_size`), else None."""
    pictures: Pictures | None = None
    """The images themselves, where they were fetched ahead; None where they lie beside the network anyway."""

    def to(self, device: torch.device) -> "Pass":
        """The same on a device; called in the thread that draws ahead, so that training waits for no copy."""
        pictures = None if self.pictures is None else on(device, self.pictures)
        return replace(self, index=self.index.to(device), drawn=self.drawn.to(device), pictures=pictures)


@dataclass(frozen=True)
class Step:
    """The passes that this rank makes of one optimizer step."""

    number: int
    images: int
    passes: list[Pass]
    shares: tuple[int, ...] = ()
    """Images of each rank."""


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


class ImageData(lightning.LightningDataModule):
    """Deals the steps of a stage, from the step that the learner has reached, ahead of time in a thread.

    Arguments:
        views: draws the random choices of each global batch.
        images: of the training set.
        course: length of the stage and size of batches.
        seed: of order and views.
        device: where the network is.
        ahead: steps made in advance.
        steps_at_once: optimizer steps in one Lightning batch; what Lightning does between two batches costs a short
            step a fifth of its time.
    """

    def __init__(
        self,
        views: Views,
        images: ImageSet,
        course: Course,
        seed: int,
        device: torch.device,
        ahead: int = 4,
        steps_at_once: int = 32,
    ) -> None:
        super().__init__()
        self.views, self.images, self.course, self.seed, self.device = views, images, course, seed, device
        self.ahead, self.steps_at_once = ahead, steps_at_once
        self.heights, self.widths = images.heights.cpu(), images.widths.cpu()

    def train_dataloader(self) -> "Ahead":
        """An iterable of groups of `Step`, from the learner's step to the last."""
        learner: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        return Ahead(self.step, lambda: int(learner.step), self.course.total_steps, self.ahead, self.steps_at_once)

    def transfer_batch_to_device(self, batch: "Steps", device: torch.device, dataloader_idx: int) -> "Steps":
        """Leave the steps where they are: they were brought to the device when they were made."""
        return batch

    def step(self, number: int) -> Step:
        """This rank's share of a step."""
        index = torch.from_numpy(self.course.order(self.seed, number))
        drawn = self.views.draw(self.seed, number, self.heights[index], self.widths[index])
        count, whole = len(index), self.course.pass_size is None
        passes = []
        ranks, rank, most = distributed.world_size(), distributed.rank(), self.course.max_batch
        shared = [cut(count, self.course.pass_size, ranks, r, most) for r in range(ranks)]
        for places in shared[rank]:
            number_of_pass = 0 if whole else places.start // int(self.course.pass_size or 1)
            passes.append(self._pass(index, drawn, places, randomness.key(self.seed, "pass", number, number_of_pass)))
        if not passes:
            places = slice(0, min(count, self.course.pass_size or most or count))
            seed = randomness.key(self.seed, "stand-in", number)
            passes = [replace(self._pass(index, drawn, places, seed), weight=0.0)]
        return Step(number, count, passes, tuple(sum(p.stop - p.start for p in places) for places in shared))

    def _pass(self, index: Tensor, drawn: Drawn, places: slice, seed: int) -> Pass:
        weight = (places.stop - places.start) / len(index)
        total = len(index) if self.course.pass_size is None else None
        beside = self.images.device.type != "cpu"
        pictures = None if beside else self.images.take(index[places])
        made = Pass(index[places], drawn.take(places), seed, weight, places.start, total, pictures)
        return made.to(self.device)


def on(device: torch.device, pictures: Pictures) -> Pictures:
    """The pictures on a device."""
    if isinstance(pictures, Tensor):
        return pictures.to(device, non_blocking=True)
    if isinstance(pictures, Ragged):
        return pictures.to(device)
    return [picture.to(device, non_blocking=True) for picture in pictures]


class Ahead:
    """Items `make(start)`, …, `make(stop - 1)` in groups, made in a thread a few items ahead of their use.

    Arguments:
        make: an item from its number.
        start: gives the number of the first item when iteration begins.
        stop: one more than the number of the last.
        ahead: items that wait for their use at most.
        at_once: items in a group.
    """

    def __init__(
        self, make: Callable[[int], Step], start: Callable[[], int], stop: int, ahead: int, at_once: int
    ) -> None:
        self.make, self.start, self.stop, self.ahead, self.at_once = make, start, stop, ahead, at_once

    def __iter__(self) -> "Iterator[Steps]":
        """Start the thread; an error in it is raised here, and leaving the loop ends it."""
        shelf, first = Shelf(self.ahead), self.start()
        work = partial(fill, shelf, self.make, range(first, self.stop))
        threading.Thread(target=work, daemon=True, name="draw ahead").start()
        try:
            for number in range(first, self.stop, self.at_once):
                yield Steps(shelf, min(self.at_once, self.stop - number))
        except GeneratorExit:  # not at the end: the last group may have been handed out before its items are used
            shelf.leave()
            raise


class Shelf:
    """Where one thread lays items down and another takes them, `ahead` of them at most.

    Two of Python's simplest queues, the second of free places: `queue.Queue` costs a short step a sixth of its time.
    """

    def __init__(self, ahead: int) -> None:
        self.made: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self.free: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.left = False
        for _ in range(ahead):
            self.free.put(None)

    def take(self) -> Step:
        """The next item, waited for; what went wrong in making it is raised."""
        item = self.made.get()
        self.free.put(None)
        if isinstance(item, BaseException):
            raise item
        return item

    def leave(self) -> None:
        """No more items are wanted."""
        self.left = True
        self.free.put(None)


def fill(shelf: Shelf, make: Callable[[int], Step], numbers: range) -> None:
    """Lay down an item for each number, until nobody wants more."""
    try:
        for number in numbers:
            shelf.free.get()
            if shelf.left:
                return
            shelf.made.put(make(number))
    except BaseException as error:
        shelf.made.put(error)


class Steps:
    """The next few items of a shelf, one at a time: nothing is taken before it is asked for."""

    def __init__(self, shelf: Shelf, count: int) -> None:
        self.shelf, self.count = shelf, count
        self.waited = 0.0
        """Seconds spent waiting for items."""

    def __iter__(self) -> Iterator[Step]:
        try:
            for _ in range(self.count):
                asked = time.perf_counter()
                item = self.shelf.take()
                self.waited += time.perf_counter() - asked
                yield item
        except GeneratorExit:
            self.shelf.leave()
            raise
