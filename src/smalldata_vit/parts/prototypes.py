"""Prototypes: directions that a projection is compared with, the weight-normalised last layer of DINO's head."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Prototypes(nn.Module):
    """Cosine of each projection to each of K directions, times the direction's length; (B, in_features) to (B, K).

    The weight is written as `weight_g · weight_v / ‖weight_v‖` (Salimans and Kingma, 2016, arXiv 1602.07868), with the
    two parameters named as in the published checkpoints.

    Arguments:
        count: K, 65,536 in DINO and 1,024 in Gani et al.
        train_norms: whether the lengths `weight_g`, all 1 at the start, are learnt. Gani et al. always freeze them in
            the student; DINO's `norm_last_layer` (true by default) does the same.
    """

    def __init__(self, in_features: int, count: int, train_norms: bool = False) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1), requires_grad=train_norms)
        self.weight_v = nn.Parameter(torch.empty(count, in_features))
        bound = in_features**-0.5
        nn.init.uniform_(self.weight_v, -bound, bound)

    def forward(self, projection: Float[Tensor, "B in"]) -> Float[Tensor, "B K"]:
        """The logits, float32 whatever the precision around; in bf16 a centre or a softmax over K would be wrong."""
        directions = self.weight_g * F.normalize(self.weight_v, dim=1)
        return F.linear(F.normalize(projection.float(), dim=1), directions).float()

    def freeze_for_this_step(self) -> None:
        """Forget the gradients of this step, so that the optimizer leaves the prototypes where they are."""
        for parameter in self.parameters():
            parameter.grad = None
