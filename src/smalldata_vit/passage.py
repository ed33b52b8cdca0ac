"""One pass through a stage's method: pictures to views to loss, with its own seeds and dropped paths."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from smalldata_vit.backbones.drop_path import places
from smalldata_vit.contracts import Batch, ImageSet, Loss, Method, Views
from smalldata_vit.data.passes import Pass
from smalldata_vit.exactness import exact_float32
from smalldata_vit.parts.running_statistics import RunningStatistics
from smalldata_vit.schedules import Progress


class Passage:
    """Takes passes through a method, forward; to be called `at` each.

    Arguments:
        method: what is minimised.
        images: the training images, on the device that they are kept on.
        views: how a picture becomes what training sees.
        reads_labels: whether the method is shown the images' labels; else -1.
        is_compiled: whether parts of the method were compiled, for passes of one size.
    """

    regular: int | None
    """Images in a pass for which a compiled method was compiled."""

    def __init__(self, method: Method, images: ImageSet, views: Views, reads_labels: bool, is_compiled: bool) -> None:
        self.method, self.images, self.views = method, images, views
        self.reads_labels, self.is_compiled, self.regular = reads_labels, is_compiled, None
        self.drop_rates: list[float] = []

    def __call__(self, one: Pass, progress: Progress) -> Loss:
        """The method's loss on a pass; views are float32 whatever the precision of training."""
        with torch.no_grad(), exact_float32(self.device):
            pictures = self.images.take(one.index) if one.pictures is None else one.pictures
            views, boxes, flips = self.views(pictures, one.drawn)
        return self.method(Batch(views, boxes, flips, self._labels(one.index), one.index, one.seed), progress)

    @contextmanager
    def at(self, one: Pass) -> Iterator[None]:
        """Forward and backward of a pass: its seeds, and where it lies in the global batch."""
        count = len(one.index)
        seed_generators(one.seed, self.device)
        share = (one.place, one.place + count, one.total) if one.total is not None else (0, count, count)
        with places(*share, device=self.device, rates=self.drop_rates) as here:
            yield
            self.drop_rates = here.rates

    def compiled_if_regular(self, one: Pass, progress: Progress) -> AbstractContextManager[None]:
        """A ragged pass runs as it is written: compiling for its size would take longer than the stage's ragged passes.

        Before the first pass of a compiled network counts, it runs once without consequences, to know how many numbers
        its dropped paths need: drawn inside, they would split the graph.
        """
        if not self.is_compiled:
            return nullcontext()
        if self.regular is None:
            self.regular, statistics = len(one.index), RunningStatistics(self.method)
            statistics.start_step()
            with torch.no_grad(), torch.compiler.set_stance("force_eager"), self.at(one):
                self(one, progress)
            statistics.end_pass(0.0)
        if len(one.index) == self.regular:
            return nullcontext()
        return cast(AbstractContextManager[None], torch.compiler.set_stance("force_eager"))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.method.parameters()).device

    def _labels(self, index: Tensor) -> Tensor:
        return self.labels[index] if self.reads_labels else torch.full_like(index, -1)

    @cached_property
    def labels(self) -> Tensor:
        """Of all images, beside the network, so that no step waits for them; asked when the network is there.

        ValueError: an image without a label, which a cross-entropy on an accelerator would answer with a crash.
        """
        hidden = int((self.images.labels < 0).sum())
        if hidden:
            raise ValueError(f"{hidden} of {len(self.images)} images have no label, and this stage needs all of them")
        return self.images.labels.to(self.device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that a forward may draw from: `torch.manual_seed` without what it does for other devices.

    In a process without GPU that records a stack trace a call, for the day when there might be one: a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
