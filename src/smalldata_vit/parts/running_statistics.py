"""Batch normalisation over a step that is cut into passes: running statistics take the mean over the passes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalldata_vit import distributed


class RunningStatistics:
    """Lets every pass of a step start from the same running statistics and keeps the mean of what they lead to.

    Without it the statistics would depend on how many passes one process makes after another, and ranks would differ.
    """

    def __init__(self, module: nn.Module) -> None:
        self.norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def _buffers(self) -> list[Tensor]:
        return [b for norm in self.norms for b in (norm.running_mean, norm.running_var) if b is not None]

    def start_step(self) -> None:
        """Remember the statistics from which every pass starts."""
        self.before = [b.clone() for b in self._buffers()]
        self.after = [torch.zeros_like(b) for b in self.before]

    def end_pass(self, weight: float) -> None:
        """Add what this pass led to, weighted by its share of the step's images, and go back to the start."""
        for buffer, before, after in zip(self._buffers(), self.before, self.after, strict=True):
            after.add_(buffer, alpha=weight)
            buffer.copy_(before)

    def end_step(self) -> None:
        """Put the mean over all passes of all ranks in place."""
        if not self.norms:
            return
        sums = distributed.total(torch.cat([a.flatten() for a in self.after]))
        for buffer, part in zip(self._buffers(), sums.split([a.numel() for a in self.after]), strict=True):
            buffer.copy_(part.view_as(buffer))
