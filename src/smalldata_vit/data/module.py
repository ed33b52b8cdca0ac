"""What a stage trains on, step by step: drawn and fetched ahead, each rank's share of it."""

from dataclasses import replace
from typing import Any

import lightning
import torch
from torch import Tensor

from smalldata_vit import distributed, randomness
from smalldata_vit.contracts import Drawn, ImageSet, Views
from smalldata_vit.data.ahead import Ahead, Steps
from smalldata_vit.data.course import Course, cut
from smalldata_vit.data.passes import Pass, Step


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
