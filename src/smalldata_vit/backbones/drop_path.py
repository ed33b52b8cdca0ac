"""Stochastic depth whose masks belong to places in the global batch.

Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, arXiv:1603.09382.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath as TimmDropPath
from torch import Tensor, nn

Shape = Literal["linear", "constant"]


class _Pass:
    """The numbers that decide which rows of this pass are dropped, and how many of them are used up.

    They are a tensor that is there before the forward: it holds nothing that torch.compile would make a graph for each
    value of, it needs no generator of the device (so CPU and GPU drop the same paths), and a forward that is repeated
    in the backward pass finds the same numbers again.
    """

    def __init__(self, span: slice, total: int, device: torch.device | str, rates: Sequence[float]) -> None:
        self.span, self.total, self.device, self.seed = span, total, device, torch.initial_seed()
        self.images = span.stop - span.start
        self.generator: torch.Generator | None = None
        self.rates = list(rates)
        self.factors: dict[torch.dtype, Tensor] = {}
        self.used, self.repeating = 0, False
        if rates:
            self.numbers = self._drawn(len(rates))
            self.factors[torch.float32] = self._factors()
            self.factors[torch.bfloat16] = self.factors[torch.float32].bfloat16()

    def _drawn(self, rows: int) -> Float[Tensor, "rows images"]:
        """The next numbers of this pass's images, in [0, 1)."""
        if self.generator is None:
            self.generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.rand(rows, self.total, generator=self.generator, device="cpu")[:, self.span]

    def _factors(self) -> Float[Tensor, "rows images"]:
        """What the branches are multiplied with, for all rows at once: a few operations instead of three a branch."""
        rates = torch.tensor(self.rates, device="cpu")[:, None]
        return ((self.numbers >= rates) / (1 - rates)).to(self.device, non_blocking=True)

    def factor(self, views: int, rate: float, branch: Tensor) -> Float[Tensor, " rows"]:
        """The factors of the next rows, for so many views of this pass's images."""
        first, last = self.used, self.used + views
        if last > len(self.rates):
            more = self._drawn(last - len(self.rates))
            self.numbers = torch.cat([self.numbers, more]) if self.rates else more
            self.rates += [rate] * (last - len(self.rates))
        self.used = last
        if branch.dtype in self.factors and last <= len(self.factors[branch.dtype]) and self.rates[first] == rate:
            return self.factors[branch.dtype][first:last].to(branch.device).flatten()
        kept = self.numbers[first:last].to(branch.device) >= rate
        return kept.flatten().to(branch.dtype) * (1 / (1 - rate))


_current: _Pass | None = None


@contextmanager
def places(
    start: int, stop: int, total: int, device: torch.device | str = "cpu", rates: Sequence[float] = ()
) -> Iterator[_Pass]:
    """Inside it a forward holds the places start .. stop - 1 of a global batch of `total` images.

    The rows of the forward are view-major: all images' first views, then all second views. Masks are drawn for all
    `total` places and cut, so that passes that start from the same torch seed drop the same paths, together, as one
    forward of the whole batch. Gives the pass, whose `rates` are the drop probabilities in the order of their use.

    Arguments:
        device: the network's.
        rates: those of an earlier pass, so that all numbers are drawn at once; more are drawn when needed, the same
            ones, but a compiled network cannot.

    ValueError unless 0 <= start < stop <= total.
    """
    global _current
    if not 0 <= start < stop <= total:
        raise ValueError(
            f"places({start}, {stop}, {total}) is no part of a batch: 0 <= start < stop <= total is needed."
        )
    before, _current = _current, _Pass(slice(start, stop), total, device, rates)
    try:
        yield _current
    finally:
        _current = before


@contextmanager
def again(used: int) -> Iterator[None]:
    """Inside it a part of this pass's forward is repeated, that had begun when `used` rows of numbers were used up."""
    if _current is None:
        yield
        return
    before, _current.used, _current.repeating = _current.used, used, True
    try:
        yield
    finally:
        _current.used, _current.repeating = before, False


def used() -> int:
    """Rows of numbers that this pass has used up."""
    return 0 if _current is None else _current.used


def in_backward() -> bool:
    """Whether this is called by autograd's backward pass."""
    return torch._C._current_graph_task_id() != -1


def factor(branch: Float[Tensor, "rows *rest"], rate: float) -> Float[Tensor, " rows"]:
    """0 for the rows that are dropped, 1 / (1 - rate) for those that are kept, in the branch's type.

    From the next numbers of this pass, or from new ones outside of any. ValueError if the rows are not a whole number
    of views of the images that `places` announced. RuntimeError where a network repeats its forward in the backward
    pass by other means than `recomputing`: other paths would be dropped.
    """
    rows = branch.shape[0]
    if _current is None:
        return (torch.rand(rows, device=branch.device) >= rate).to(branch.dtype) * (1 / (1 - rate))
    if not torch.compiler.is_compiling() and _current.repeating != in_backward():
        raise RuntimeError("this network's own activation checkpointing would drop other paths: drop_path_rate=0 here")
    if rows % _current.images:
        raise ValueError(f"A forward of {rows} rows cannot be views of the {_current.images} images of this pass.")
    return _current.factor(rows // _current.images, rate, branch)


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
        return branch * factor(branch, self.drop_prob).reshape(-1, *[1] * (branch.ndim - 1))

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
