"""How much faster this processor multiplies in bf16 than in float32: no step in bf16 can gain more than that."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from smalldata_vit.bench.harness import Contender, Table, compared, timed
from smalldata_vit.bench.machine import has_bf16

ROWS, WIDTH, HIDDEN = 32 * 65, 192, 576
"""The largest product of a block of Gani's ViT: query, key and value of 32 images of 32 px."""


def three_products(kind: torch.dtype) -> Callable[[], None]:
    """A layer's product forward, and the two of its backward pass."""
    x, weight = torch.randn(ROWS, WIDTH).to(kind), torch.randn(HIDDEN, WIDTH).to(kind)
    gradient = torch.randn(ROWS, HIDDEN).to(kind)

    def work() -> None:
        F.linear(x, weight)
        gradient @ weight
        gradient.t() @ x

    return work


def table(rounds: int) -> Table:
    """GFLOP a second on the CPU; bf16 where the hardware multiplies it."""
    kinds = {"float32": torch.float32, "bf16": torch.bfloat16} if has_bf16() else {"float32": torch.float32}
    gflop = 3 * 2 * ROWS * WIDTH * HIDDEN / 1e9
    found = [Contender(f"product, {name}", timed(three_products(kind), gflop)) for name, kind in kinds.items()]
    return compared(f"products of {ROWS}x{WIDTH} by {WIDTH}x{HIDDEN}", found, rounds, unit="GFLOP/s")
