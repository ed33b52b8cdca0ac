"""What adds up over passes, steps and ranks: on the device, without making anybody wait."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smalldata_vit import distributed
from smalldata_vit.contracts import Loss, Seen


class Tally:
    """Sums over passes, steps and ranks; `read` is the only host read of training."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}
        self.steps = 0

    def add_pass(self, loss: Loss, weight: float) -> None:
        """Terms, their sum and stats of one pass, by its share of the step's images."""
        self._add({"loss": loss.total, **loss.terms, **loss.stats}, weight)

    def add_step(self, numbers: Mapping[str, Tensor]) -> None:
        """Numbers that every rank has of the whole step."""
        self._add(numbers, 1 / distributed.world_size())

    def end_step(self) -> None:
        """Count a step."""
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Means over the steps so far, the same on every rank; begins anew."""
        means = distributed.total(torch.cat(list(self.sums.values())) / self.steps).tolist()
        numbers: dict[str, float] = {}
        # A name comes more than once where passes had different terms.
        for name, mean in zip([name for names in self.sums for name in names], means, strict=True):
            numbers[name] = numbers.get(name, 0.0) + mean
        self.sums, self.steps = {}, 0
        return numbers

    def _add(self, numbers: Mapping[str, Tensor], weight: float) -> None:
        """One sum for all numbers that come together: a number alone would cost a step three operations."""
        values = torch.stack([value.detach().float() for value in numbers.values()])
        names = tuple(numbers)
        self.sums[names] = self.sums[names].add_(values, alpha=weight) if names in self.sums else values * weight


class Pace:
    """How fast training goes, and what share of the time it waited for images."""

    def __init__(self) -> None:
        self.since, self.images, self.steps, self.waited = time.perf_counter(), 0, 0, 0.0

    def begin(self, images: int) -> None:
        """A step on so many images, of all ranks, begins."""
        self.images += images
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Images a second and seconds a step since the last reading; begins anew.

        To be asked when the device has nothing left to do.
        """
        seconds = max(time.perf_counter() - self.since, 1e-9)
        numbers = {"images_per_second": self.images / seconds, "waiting": min(self.waited / seconds, 1.0)}
        numbers["seconds_per_step"] = seconds / max(self.steps, 1)
        self.since, self.images, self.steps, self.waited = time.perf_counter(), 0, 0, 0.0
        return numbers


class Combined:
    """What the passes of a step saw, as one tensor a name for the whole global batch.

    `shares`: images of each rank.
    """

    def __init__(self, shares: Sequence[int]) -> None:
        self.shares = shares
        self.means: dict[str, Tensor] = {}
        self.rows: dict[str, list[Tensor]] = {}
        self.rows_per_image: dict[str, int] = {}

    def add(self, seen: Mapping[str, Seen], weight: float, images: int) -> None:
        """Of one pass, by its share of the step's images."""
        for name, one in seen.items():
            if one.combine == "mean":
                value = one.value.detach().float() if weight == 1 else one.value.detach().float() * weight
                self.means[name] = self.means[name] + value if name in self.means else value
            else:
                self.rows_per_image[name] = len(one.value) // images
                self.rows.setdefault(name, []).append(one.value if weight > 0 else one.value[:0])

    def everything(self) -> dict[str, Tensor]:
        """The means in one collective for all of them; rows in the order of the global batch."""
        means = dict(zip(self.means, distributed.totals(list(self.means.values())), strict=True))
        counts = {name: [share * each for share in self.shares] for name, each in self.rows_per_image.items()}
        return means | {n: distributed.rows(torch.cat(parts), counts[n]) for n, parts in self.rows.items()}
