"""What a step of a ViT cannot do without: FLOP and bytes per image in closed form, and how near a chip gets to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BYTES = 2
"""Of an activation in bf16."""
BACKWARD_TRAFFIC = 2.2
"""Bytes that a backward pass moves, over those of its forward pass."""
Views = Sequence[tuple[int, int]]
"""Views of an image: how many, and their side in pixels."""


@dataclass(frozen=True)
class Transformer:
    """A ViT with a class token. FLOP are 2 per multiply-add of matrix products, patches and attention.

    Arguments:
        width, depth, ratio: D, number of blocks, hidden width of a block's MLP over D.
        patch: side in pixels.
        short: whether the last block is computed for the class token only.
        recomputes: whether the backward pass of attention computes QKᵀ again, as torch's fused kernels do.
    """

    width: int
    depth: int
    ratio: float
    patch: int
    short: bool = False
    recomputes: bool = False

    def tokens(self, side: int) -> int:
        """N of a square view, the class token included."""
        return (side // self.patch) ** 2 + 1

    def patches(self, side: int) -> float:
        """FLOP of the patch embedding of one view."""
        return 2 * (self.tokens(side) - 1) * 3 * self.patch**2 * self.width

    def attention(self, side: int) -> float:
        """FLOP of QKᵀ and of its product with V in all blocks for one view."""
        tokens = self.tokens(side)
        last = 1 if self.short else tokens
        return 4 * tokens * self.width * ((self.depth - 1) * tokens + last)

    def products(self, side: int) -> float:
        """FLOP of the four matrix products of all blocks for one view."""
        tokens, square = self.tokens(side), self.width**2
        block = tokens * (8 + 4 * self.ratio) * square
        last = (4 * tokens + 4 + 4 * self.ratio) * square if self.short else block
        return (self.depth - 1) * block + last

    def forward(self, views: Views) -> float:
        """FLOP of the forward pass of an image's views."""
        return sum(n * (self.patches(s) + self.attention(s) + self.products(s)) for n, s in views)

    def backward(self, views: Views) -> float:
        """FLOP of the backward pass: twice the forward, but pictures need no gradient."""
        attention = 2.5 if self.recomputes else 2.0
        return sum(n * (self.patches(s) + attention * self.attention(s) + 2 * self.products(s)) for n, s in views)

    def traffic(self, views: Views) -> float:
        """Least bytes of a forward pass in bf16 with one kernel per layer step.

        Per token and block: residual sum with normalisation twice (4 D each), query-key-value (4 D), attention (4 D),
        projection (2 D), the MLP's two products and its GELU (2 D + 4 r D); every operand is read or written once.
        """
        return sum(n * self.tokens(s) for n, s in views) * self.depth * (20 + 4 * self.ratio) * self.width * BYTES


def layers(widths: Sequence[int]) -> float:
    """FLOP of a stack of linear layers for one row."""
    return sum(2 * a * b for a, b in pairwise(widths))


def distillation(network: Transformer, student: Views, teacher: Views, head: Sequence[int]) -> float:
    """FLOP per image of a DINO step: the student forward and back, the teacher forward, the head on every view."""
    rows, taught = (sum(n for n, _ in views) for views in (student, teacher))
    passes = network.forward(student) + network.backward(student) + network.forward(teacher)
    return passes + layers(head) * (3 * rows + taught)


def training(network: Transformer, views: Views, classes: int) -> float:
    """FLOP per image of a supervised step with a linear head."""
    head = layers([network.width, classes]) * 3 * sum(n for n, _ in views)
    return network.forward(views) + network.backward(views) + head


def least_traffic(network: Transformer, student: Views, teacher: Views = ()) -> float:
    """Least bytes per image of a step; heads and optimizer, small, are left out."""
    return (1 + BACKWARD_TRAFFIC) * network.traffic(student) + network.traffic(teacher)


@dataclass(frozen=True)
class Chip:
    """What the machine was measured to reach.

    Arguments:
        flops: per second, of large matrix products.
        bytes: per second, read and written, of a large copy.
    """

    flops: float
    bytes: float

    def utilisation(self, images_per_second: float, flops_per_image: float) -> float:
        """Share of the arithmetic rate that goes into the FLOP that the step needs (MFU)."""
        return images_per_second * flops_per_image / self.flops

    def share_of_floor(self, images_per_second: float, bytes_per_image: float) -> float:
        """The rate over the one that least traffic allows."""
        return images_per_second * bytes_per_image / self.bytes
