"""When to stop guiding: a controller that watches how fast the guidance loss falls.

Rostand, Hsu and Lu, IEEE TNNLS 2024, doi 10.1109/TNNLS.2024.3515076, as far as others have written its equations down;
the paper itself was not at hand.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.schedules import Progress


class LossDerivative(nn.Module):
    """Guides while the smoothed derivative s(e) of the guidance loss is below a threshold; then never again.

    It is asked at the end of each whole epoch e = 1, 2, …, with L(e) the mean over that epoch's global batches of the
    guidance loss without its weight. What it remembers are buffers, so a resumed stage goes on as if it had not
    stopped. The decision is read by the host once an epoch.

    Arguments:
        window: w, in epochs; 50 in the paper.
        threshold: τ, loss per epoch; -0.02 in the paper.
        comparison: guidance ends at the first s(e) `at_least` τ (the paper's equations) or `above` τ (its code).
        warmup_epochs: in which nothing is decided. In the first epoch there is no derivative yet, so 1 is the least;
            20 in the authors' own code.
    """

    total: Tensor
    steps: Tensor
    losses: Tensor
    epochs: Tensor
    slope: Tensor
    guides: Tensor

    def __init__(
        self,
        window: int = 50,
        threshold: float = -0.02,
        comparison: Literal["at_least", "above"] = "at_least",
        warmup_epochs: int = 1,
    ) -> None:
        super().__init__()
        if window < 1 or warmup_epochs < 1:
            raise ValueError(
                f"window={window}, warmup_epochs={warmup_epochs}: both are at least one epoch, for the first has no "
                f"derivative"
            )
        self.window, self.threshold, self.comparison = window, threshold, comparison
        self.warmup_epochs = warmup_epochs
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("losses", torch.zeros(2 * window))  # s(e) looks back over two windows at most
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("slope", torch.zeros(()))
        self.register_buffer("guides", torch.ones((), dtype=torch.bool))
        self._known: bool | None = None
        self.register_load_state_dict_post_hook(_forget)

    @property
    def on(self) -> bool:
        """Whether to guide; the same on every rank, because what it was fed was reduced over all of them."""
        if self._known is None:
            self._known = True if self.guides.is_meta else bool(self.guides)
        return self._known

    @torch.no_grad()
    def after_step(self, progress: Progress, loss: Float[Tensor, ""]) -> None:
        """Take in the guidance loss of one global batch; at the end of an epoch, decide."""
        self.total.add_(loss)
        self.steps.add_(1)
        if (progress.step + 1) % progress.steps_per_epoch == 0:
            self._end_epoch()

    def _end_epoch(self) -> None:
        latest = torch.cat([self.losses[1:], (self.total / self.steps)[None]])
        self.losses.copy_(latest)
        self.epochs.add_(1)
        self.total.zero_()
        self.steps.zero_()
        epoch = int(self.epochs)
        smoothed = smoothed_derivative(latest.tolist()[-min(epoch, 2 * self.window) :], epoch, self.window)
        self.slope.fill_(smoothed)
        over = smoothed > self.threshold if self.comparison == "above" else smoothed >= self.threshold
        if epoch > self.warmup_epochs and over:
            self.guides.fill_(False)
        self._known = None


def _forget(controller: Any, keys: Any) -> None:
    """Weights were loaded: what the host knew of the decision is no longer true."""
    controller._known = None


def smoothed_derivative(latest: Sequence[float], epoch: int, window: int) -> float:
    """s(e) from the last losses L(…), L(e), of which min(e, 2 w) are needed.

    d(1) = 0; d(k) = (L(k) - mean L(1 … k-1)) / k up to k = w, (L(k) - L(k-w)) / w beyond; s(e) is the sum of
    d(1 … e) over e up to e = w, the mean of the last w derivatives beyond.
    """
    before = epoch - len(latest)

    def loss(k: int) -> float:
        return latest[k - 1 - before]

    def derivative(k: int) -> float:
        if k == 1:
            return 0.0
        if k > window:
            return (loss(k) - loss(k - window)) / window
        return (loss(k) - sum(loss(j) for j in range(1, k)) / (k - 1)) / k

    first = max(1, epoch - window + 1)
    return sum(derivative(k) for k in range(first, epoch + 1)) / min(epoch, window)
