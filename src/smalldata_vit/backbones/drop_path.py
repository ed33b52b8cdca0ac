"""Stochastic depth whose masks belong to places in the global batch.

Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, arXiv:1603.09382.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float
from timm.layers.drop import DropPath as TimmDropPath
from torch import Tensor, nn

Shape = Literal["linear", "constant"]


class _Pass:
    """Which part of the global batch a forward holds.

    The places are a tensor because torch.compile would make a graph for each value of an integer or a ContextVar.
    """

    total: int | None = None
    index: Tensor | None = None


_current = _Pass()


@contextmanager
def places(start: int, stop: int, total: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside it a forward holds the places start .. stop - 1 of a global batch of `total` images.

    The rows of the forward are view-major: all images' first views, then all second views. Masks are drawn for all
    `total` places and cut, so that passes that start from the same torch seed drop the same paths, together, as one
    forward of the whole batch. `device`: the network's, which saves it copies. ValueError unless
    0 <= start < stop <= total.
    """
    if not 0 <= start < stop <= total:
        raise ValueError(
            f"places({start}, {stop}, {total}) is no part of a batch: 0 <= start < stop <= total is needed."
        )
    before = _current.total, _current.index
    whole = (start, stop) == (0, total)
    _current.total, _current.index = total, None if whole else torch.arange(start, stop, device=device)
    try:
        yield
    finally:
        _current.total, _current.index = before


def kept(rows: int, drop_prob: float, device: torch.device) -> Bool[Tensor, " rows"]:
    """Which rows of a forward keep their path; draws (V, total) numbers from torch's generator of the device.

    ValueError if the rows are not a whole number of views of the images that `places` announced.
    """
    total = rows if _current.total is None else _current.total
    images = total if _current.index is None else len(_current.index)
    if rows % images:
        raise ValueError(f"A forward of {rows} rows cannot be views of the {images} images of this pass.")
    drawn = torch.rand(rows // images, total, device=device)
    if _current.index is not None:
        drawn = drawn[:, _current.index.to(device)]
    return (drawn >= drop_prob).flatten()


class DropPath(nn.Module):
    """Drops a residual branch for a whole row with probability `drop_prob`, and scales what is kept by 1 / (1 - p)."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f"A drop-path rate lies in [0, 1), not {drop_prob}.")
        self.drop_prob = drop_prob

    def forward(self, branch: Float[Tensor, " rows *rest"]) -> Float[Tensor, " rows *rest"]:
        """The branch, zero in the dropped rows; in evaluation mode the branch itself."""
        if not self.training or self.drop_prob == 0:
            return branch
        scale = kept(branch.shape[0], self.drop_prob, branch.device).to(branch.dtype) / (1 - self.drop_prob)
        return branch * scale.reshape(-1, *[1] * (branch.ndim - 1))

    def extra_repr(self) -> str:
        """The probability."""
        return f"drop_prob={self.drop_prob:g}"


def rates(rate: float, depth: int, shape: Shape) -> list[float]:
    """Drop probability of each block: `linear` from 0 to `rate` (the paper's linear decay rule), or `constant`."""
    if shape == "constant":
        return [rate] * depth
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def replace_drop_paths(network: nn.Module) -> None:
    """Put ours, with the same probability, in the place of each of timm's."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TimmDropPath):
                setattr(parent, name, DropPath(child.drop_prob))
