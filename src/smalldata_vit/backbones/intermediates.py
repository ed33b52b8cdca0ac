"""The outputs of single blocks, by timm's contract: `forward_intermediates`, blocks counted over all stages from 0.

timm counts stages where a network has them (PVTv2, PiT); a published pair of guidance names a block of any stage.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.backbones.recomputing import recomputed

Indices = int | Sequence[int] | None
"""Which blocks: None for all, n for the last n, or a list of places from 0, negative ones from the end."""


class Taps:
    """Keeps the outputs of those blocks that were asked for, in the order of the network.

    `norm`: as they leave the norm that follows their stage, where there is one. `output_fmt`: NCHW for maps, NLC for
    tokens (B, H·W, D). `stop_early`: the network need not go on behind the last of them.
    """

    def __init__(
        self, depth: int, indices: Indices, norm: bool = False, output_fmt: str = "NCHW", stop_early: bool = False
    ) -> None:
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"Intermediates come as NCHW or NLC, not as {output_fmt!r}.")
        self.chosen = chosen(depth, indices)
        self.norm, self.output_fmt, self.stop_early = norm, output_fmt, stop_early
        self.maps: list[Tensor] = []

    def offer(
        self, number: int, tokens: Float[Tensor, "B N D"], grid: tuple[int, int], prefix: int, norm: nn.Module | None
    ) -> bool:
        """Keep the output of block `number` if it was asked for, without its first `prefix` tokens.

        True when the network may stop here.
        """
        if number in self.chosen:
            kept = tokens if norm is None or not self.norm else norm(tokens)
            kept = kept[:, prefix:]
            self.maps.append(kept if self.output_fmt == "NLC" else as_map(kept, grid))
        return self.stop_early and bool(self.chosen) and number >= max(self.chosen)


def chosen(depth: int, indices: Indices) -> frozenset[int]:
    """The places, 0 .. depth - 1; ValueError for a place that the network does not have."""
    if indices is None:
        return frozenset(range(depth))
    if isinstance(indices, int):
        if not 0 < indices <= depth:
            raise ValueError(f"The last {indices} blocks were asked for; the network has {depth}.")
        return frozenset(range(depth - indices, depth))
    for place in indices:
        if not -depth <= place < depth:
            raise ValueError(f"Block {place} was asked for; the network has {depth}: 0 to {depth - 1}.")
    return frozenset(place % depth for place in indices)


def through(again: bool, block: Callable[..., Tensor], tokens: Tensor, *others: object) -> Tensor:
    """`block(tokens, *others)`; with `again` its activations are made again in the backward pass, not kept."""
    return recomputed(block, tokens, *others) if again and torch.is_grad_enabled() else block(tokens, *others)


def as_map(tokens: Float[Tensor, "B N D"], grid: tuple[int, int]) -> Float[Tensor, "B D h w"]:
    """Tokens on their grid, row by row."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


def as_tokens(maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B N D"]:
    """Maps as tokens, row by row."""
    return maps.flatten(2).transpose(1, 2)


def feature_info(
    widths: Sequence[int], depths: Sequence[int], strides: Sequence[int], name: str
) -> list[dict[str, Any]]:
    """timm's table of what `forward_intermediates` offers, a row for each block.

    `widths`, `depths`, `strides` (pixels a token): of each stage. `name`: of a block, with {stage} and {block}.
    """
    return [
        {"num_chs": width, "reduction": stride, "module": name.format(stage=stage, block=block)}
        for stage, (width, depth, stride) in enumerate(zip(widths, depths, strides, strict=True))
        for block in range(depth)
    ]
