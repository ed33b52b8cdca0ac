"""The queue of earlier keys that MoCo takes its negatives from. He et al., CVPR 2020, arXiv 1911.05722, section 3.2."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Queue(nn.Module):
    """The latest `length` keys, each with the image it was made of; starts with random directions of no image.

    ValueError: a queue without places.
    """

    keys: Float[Tensor, "K P"]
    image: Int[Tensor, " K"]
    """Place in the training set of the image that each key belongs to, -1 for the random ones."""
    place: Int[Tensor, ""]
    """Where the next key goes, which is where the oldest one is."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"a queue of {length} keys holds no negatives; it needs at least 1")
        self.register_buffer("keys", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("image", torch.full((length,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "G P"], image: Int[Tensor, " G"]) -> None:
        """Put keys of length 1 in the place of the oldest; of more than the queue holds, the last."""
        length = len(self.keys)
        keys, image = keys[-length:], image[-length:]
        at = (self.place + torch.arange(len(keys), device=keys.device)) % length
        self.keys.index_copy_(0, at, keys.to(self.keys.dtype))
        self.image.index_copy_(0, at, image)
        self.place.add_(len(keys)).remainder_(length)
