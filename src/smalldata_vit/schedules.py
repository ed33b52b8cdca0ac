"""Progress of a stage, and scalars as pure functions of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """How far a stage is, counted in optimizer steps already taken."""

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def fraction(self) -> float:
        """0 at the first step, 1 after the last."""
        return self.step / self.total_steps

    @property
    def epoch(self) -> float:
        """Epochs as a real number."""
        return self.step / self.steps_per_epoch


class Schedule(ABC):
    """A pure function from progress to a number."""

    @abstractmethod
    def __call__(self, progress: Progress) -> float:
        """The value in force during the step that `progress` counts (0 for the first)."""


class Constant(Schedule):
    """Always the same value."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> float:
        """The value."""
        return self.value


class Cosine(Schedule):
    """Half a cosine from `start` (first step) towards `end` (the step after the last)."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def __call__(self, progress: Progress) -> float:
        """`end + (start - end) (1 + cos(π fraction)) / 2`."""
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress.fraction))


class Linear(Schedule):
    """A straight line from `start` (first step) towards `end` (the step after the last)."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def __call__(self, progress: Progress) -> float:
        """Linear interpolation by the fraction done."""
        return self.start + (self.end - self.start) * progress.fraction


class LinearEpochs(Schedule):
    """`numpy.linspace(start, end, epochs)` indexed by the whole epoch, then `end` (DINO's teacher temperature)."""

    def __init__(self, start: float, end: float, epochs: int) -> None:
        self.start, self.end, self.epochs = start, end, epochs

    def __call__(self, progress: Progress) -> float:
        """Constant within an epoch; the last of the `epochs` values is `end` itself."""
        epoch = int(progress.step // progress.steps_per_epoch)
        if epoch >= self.epochs - 1:
            return self.end
        return self.start + (self.end - self.start) * epoch / (self.epochs - 1)


class Steps(Schedule):
    """`value`, multiplied by `factor` at each of the milestones (fractions of the stage)."""

    def __init__(self, value: float, milestones: Sequence[float], factor: float = 0.1) -> None:
        self.value, self.milestones, self.factor = value, tuple(milestones), factor

    def __call__(self, progress: Progress) -> float:
        """Piecewise constant."""
        return self.value * self.factor ** sum(progress.fraction >= m for m in self.milestones)


class WarmupCosine(Schedule):
    """A linear warm-up from `start` to `peak`, then a cosine to `floor`; the usual learning-rate schedule.

    The warm-up lasts `warmup_epochs`, or `warmup_fraction` of the stage when that is given. `warmup_ends` says which
    step is the first at full height: `within` is `numpy.linspace` with both ends (the last step of the warm-up already
    has `peak`, as in DINO), `after` is the half-open ramp (the first step behind the warm-up has it, as in timm and
    in the fine-tuning of Gani et al.).
    """

    def __init__(
        self,
        peak: float,
        warmup_epochs: float = 0,
        start: float = 0.0,
        floor: float = 0.0,
        warmup_ends: Literal["within", "after"] = "after",
        warmup_fraction: float | None = None,
    ) -> None:
        self.warmup_epochs, self.start, self.floor, self.peak = warmup_epochs, start, floor, peak
        self.warmup_ends, self.warmup_fraction = warmup_ends, warmup_fraction

    def __call__(self, progress: Progress) -> float:
        """Warm-up, then `floor + (peak - floor) (1 + cos(π i / n)) / 2` over the n steps that remain."""
        if self.warmup_fraction is None:
            warmup = round(self.warmup_epochs * progress.steps_per_epoch)
        else:
            warmup = round(self.warmup_fraction * progress.total_steps)
        warmup = min(warmup, progress.total_steps)
        if progress.step < warmup:
            last = max(warmup - 1, 1) if self.warmup_ends == "within" else warmup
            return self.start + (self.peak - self.start) * progress.step / last
        n = max(progress.total_steps - warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * (progress.step - warmup) / n))
        return self.floor + (self.peak - self.floor) * cosine


class CosineIDMM(Schedule):
    """A linear warm-up from 0 to `peak`, then the bent cosine of IDMM's published code (arXiv 2201.10728).

    With t and E the epochs done and in all and w those of the warm-up it is `peak (1 + cos((π t - w) / (E - w))) / 2`,
    where `WarmupCosine` has π (t - w): it starts a little below the peak (by 1.4 % for E = 100, w = 10), falls faster,
    reaches 0 at t = E - w + w / π, and rises again to at most 1.4 % of the peak. For results that are to be compared
    with the published ones.
    """

    def __init__(self, peak: float, warmup_epochs: float = 0) -> None:
        self.peak, self.warmup_epochs = peak, warmup_epochs

    def __call__(self, progress: Progress) -> float:
        """The value at the epochs done, as a real number."""
        epoch, warmup = progress.epoch, self.warmup_epochs
        if epoch < warmup:
            return self.peak * epoch / warmup
        rest = progress.total_steps / progress.steps_per_epoch - warmup
        if rest <= 0:
            return self.peak
        return self.peak * 0.5 * (1 + math.cos((math.pi * epoch - warmup) / rest))
