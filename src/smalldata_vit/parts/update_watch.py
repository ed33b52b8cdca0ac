"""How often and how strongly each row of an instance classifier is updated.

Cao, Yu and Wu (ECCV 2022, arXiv 2201.10728) explain the difficulty of instance discrimination by infrequent updates:
the gradient on row k is Σ_i (P_ik - t_ik) z_i, and t_ik is large in one image of N only. CutMix and label smoothing
spread it over more rows.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NAMES = ("rows_updated", "effective_rows", "other_to_own_update", "updates_per_row", "rows_never_updated")


class UpdateWatch(nn.Module):
    """Counts updates of each row, from the gradient of the whole step; everything stays on the device.

    Arguments:
        rows: N.
        threshold: a row counts as updated in a step when its gradient's norm is above this share of the largest.

    The numbers, of the last step and since the start of the stage:
        rows_updated: share of rows that were updated in the step.
        effective_rows: (Σ n)² / (N Σ n²) of the norms n, for which no threshold is needed: 1 when all rows are updated
            alike, 1/N when one is.
        other_to_own_update: mean norm on rows whose images were not shown over that on rows whose images were; near 0
            a row learns nothing while its own image is away, which is the infrequent update.
        updates_per_row: how often a row was updated since the start, the mean over rows.
        rows_never_updated: share of rows that never were.
    """

    updates: Int[Tensor, " N"]
    numbers: Float[Tensor, " 5"]

    def __init__(self, rows: int, threshold: float) -> None:
        super().__init__()
        if not 0 <= threshold < 1:
            raise ValueError(f"update_threshold is {threshold}; it is a share of the largest norm, from 0 to below 1")
        self.threshold = threshold
        self.register_buffer("updates", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("numbers", torch.zeros(len(NAMES)))
        self.norms: Tensor | None = None

    @torch.no_grad()
    def look(self, gradient: Float[Tensor, "N D"]) -> None:
        """Take the norms of a step's gradient, before the optimizer forgets it; nothing is counted yet."""
        self.norms = torch.linalg.vector_norm(gradient.float(), dim=1)

    @torch.no_grad()
    def count(self, shown: Bool[Tensor, " N"]) -> None:
        """Count the step that was looked at, now that it was taken; `shown`: rows whose images were in it."""
        if self.norms is None:
            raise RuntimeError("no gradient was looked at since the last step: call look() after backward")
        norms, self.norms = self.norms, None
        tiny = torch.finfo(norms.dtype).tiny
        updated = norms > self.threshold * norms.max()
        self.updates += updated
        unit = norms / norms.max().clamp(min=tiny)  # squares of small norms would vanish
        evenness = unit.sum().square() / (len(norms) * unit.square().sum()).clamp(min=tiny)
        ratio = mean_where(norms, ~shown) / mean_where(norms, shown).clamp(min=tiny)
        never = (self.updates == 0).float().mean()
        values = [updated.float().mean(), evenness, ratio, self.updates.float().mean(), never]
        self.numbers.copy_(torch.stack(values))

    def stats(self) -> dict[str, Float[Tensor, ""]]:
        """The numbers by name, as they stood after the last step; zeros before the first."""
        return dict(zip(NAMES, self.numbers.clone().unbind(), strict=True))


def mean_where(values: Float[Tensor, " N"], chosen: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
    """The mean over the chosen ones, 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
