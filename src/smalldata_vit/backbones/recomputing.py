"""Activation checkpointing: a block's inner activations are made again in the backward pass instead of being kept.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv 1604.06174.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from smalldata_vit.backbones import drop_path


def recomputed(block: Callable[..., Tensor], tokens: Tensor, *others: object) -> Tensor:
    """`block(tokens, *others)`, of which only the input is kept; dropped paths are the same when it runs again."""
    used = drop_path.used()

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), drop_path.again(used)

    out = checkpoint(block, tokens, *others, use_reentrant=False, context_fn=contexts)
    assert isinstance(out, Tensor)
    return out
