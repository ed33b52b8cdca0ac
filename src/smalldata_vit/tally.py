"""Numbers of the steps since they were last written down: summed on the device, read by the host once."""

import torch
from torch import Tensor

from smalldata_vit import distributed
from smalldata_vit.contracts import Loss


class Tally:
    """Sums over passes, steps and ranks; `read` is the only host read of training."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add_pass(self, loss: Loss, weight: float) -> None:
        """Terms, their sum and stats of one pass, by its share of the step's images."""
        for name, value in {"loss": loss.total, **loss.terms, **loss.stats}.items():
            self._add(name, value.detach().float() * weight)

    def add_step(self, name: str, value: Tensor) -> None:
        """A number that every rank has of the whole step."""
        self._add(name, value.detach().float() / distributed.world_size())

    def end_step(self) -> None:
        """Count a step."""
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Means over the steps so far, the same on every rank; begins anew."""
        means = distributed.total(torch.stack(list(self.sums.values())) / self.steps).tolist()
        numbers = dict(zip(self.sums, means, strict=True))
        self.sums, self.steps = {}, 0
        return numbers

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value
