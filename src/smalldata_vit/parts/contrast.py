"""Telling an image's own view from others: similarities, InfoNCE, and what to watch.

InfoNCE: van den Oord, Li and Vinyals, arXiv 1807.03748, eq. (4).
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.contracts import Batch
from smalldata_vit.exactness import exact_float32
from smalldata_vit.parts.collapse import effective_rank, feature_std


class Contrast(NamedTuple):
    """A contrastive loss, and how often the positive was the most similar of all (a share, without gradient)."""

    loss: Float[Tensor, ""]
    positive_first: Float[Tensor, ""]


def two_views(batch: Batch) -> Float[Tensor, "B 2 3 H W"]:
    """The two equally large views of each image; ValueError if there are others."""
    counts = [group.shape[1] for group in batch.views]
    if counts[0] != 2 or any(counts[1:]):
        raise ValueError(
            f"the groups of views have {', '.join(map(str, counts))} views of an image, and two equally large ones "
            f"are compared: give the first group count=2 and any other count=0"
        )
    return batch.views[0]


def cosines(one: Float[Tensor, "N P"], other: Float[Tensor, "M P"]) -> Float[Tensor, "N M"]:
    """Cosine of every pair, float32 whatever the precision around.

    Divided by a temperature of 0.1, the 0.004 by which bf16 rounds a cosine near 1 would be 4 % of a probability.
    """
    known = torch.amp.is_autocast_available(one.device.type)  # meta, which has shapes alone, knows no precision
    with exact_float32(one.device) if known else nullcontext():
        return unit(one) @ unit(other).T


def unit(vectors: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """The vectors brought to length 1, in at least float32."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def info_nce(logits: Float[Tensor, "N L"], positive: Int[Tensor, " N"]) -> Contrast:
    """The mean of -log softmax(logits)_positive: eq. (4) with the logarithm of its score as `logits`."""
    first = (logits.detach().argmax(1) == positive).float().mean()
    return Contrast(F.cross_entropy(logits, positive), first)


@torch.no_grad()
def spread(features: Float[Tensor, "V B D"]) -> dict[str, Float[Tensor, ""]]:
    """What the collapse watch looks at, over all views of all images."""
    flat = features.flatten(0, 1).float()
    return {"feature_std": feature_std(flat), "effective_rank": effective_rank(flat)}
