"""The smallest stage: one layer of 32 by 32 inside our real learner, so that nothing but the loop is left to time."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalldata_vit.contracts import Batch, Loss, Method
from smalldata_vit.data.course import Course
from smalldata_vit.data.module import ImageData
from smalldata_vit.journal import Journal
from smalldata_vit.judging import Judge
from smalldata_vit.learners import Pretraining
from smalldata_vit.optimization import Optimization
from smalldata_vit.schedules import Constant, Progress, WarmupCosine

WIDTH, BATCH = 32, 32
LR = 1e-3
NUMBERS = ("a", "b", "c", "d")
"""Logged beside the loss, which makes five."""


def adamw(groups: Any, lr: float) -> torch.optim.Optimizer:
    """The optimizer of all contenders."""
    return torch.optim.AdamW(groups, lr=lr, fused=True)


class OneLayer(Method):
    """The smallest thing that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """A loss and four more numbers."""
        loss = self.layer(batch.views[0].reshape(-1, WIDTH)).square().mean()
        return Loss({"square": loss}, {name: loss.detach() for name in NUMBERS})

    @property
    def encoder(self) -> nn.Module:
        """The layer."""
        return self.layer


class NoDrawn:
    """No random choices."""

    def take(self, places: slice) -> "NoDrawn":
        """Itself."""
        return self

    def to(self, device: torch.device) -> "NoDrawn":
        """Itself."""
        return self


class SameViews:
    """The same views for every step (a `contracts.Views`)."""

    def __init__(self) -> None:
        shape = (BATCH, 1)
        self.made = [torch.randn(*shape, 3, 4, 8)]
        self.boxes, self.flips = [torch.zeros(*shape, 4)], [torch.zeros(shape, dtype=torch.bool)]

    def compile(self) -> None:
        """There is nothing to compile."""

    def path(self, device: torch.device) -> str:
        """In a log."""
        return "the same for every step"

    def draw(self, seed: int, step: int, heights: Tensor, widths: Tensor) -> NoDrawn:
        """Nothing."""
        return NoDrawn()

    def __call__(self, pictures: Any, drawn: Any) -> Any:
        """The same as ever."""
        return self.made, self.boxes, self.flips


class Pictures:
    """Images whose pixels nobody looks at (a `contracts.ImageSet`)."""

    def __init__(self, count: int) -> None:
        self.labels, self.device, self.count = torch.zeros(count, dtype=torch.int64), torch.device("cpu"), count
        self.heights = self.widths = torch.ones(count, dtype=torch.int64)

    def __len__(self) -> int:
        return self.count

    def take(self, index: Tensor) -> Tensor:
        """Black."""
        return torch.zeros(len(index), 3, 1, 1, dtype=torch.uint8)


def built(folder: Path, steps: int, at_once: int) -> tuple[Pretraining, ImageData]:
    """Our learner with its real journal, tally, clipping, schedules and data thread around the one layer."""
    images, views = Pictures(16 * BATCH), SameViews()
    schedule = WarmupCosine
    optimization = Optimization(
        adamw, LR, lambda peak: schedule(peak=peak, warmup_fraction=0.1, floor=0.0), Constant(0.05), "matrices", 3.0
    )
    course = Course(len(images), BATCH, None, steps)
    judge = Judge({}, images, torch.zeros(len(images), dtype=torch.int64), pixels, {})
    learner = Pretraining(
        OneLayer(), images, views, optimization, course, judge, Journal(folder, "pretrain"), 0, "bench",
        save=lambda learner: None, save_every_seconds=1e9,
    )  # fmt: skip
    return learner, ImageData(views, images, course, 0, torch.device("cpu"), steps_at_once=at_once)


def pixels(pictures: Any) -> Tensor:
    """What an evaluator would see; there is none."""
    return torch.as_tensor(pictures)
