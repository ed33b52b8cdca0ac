"""A teacher: the exponential moving average of a student, which learns from nobody else.

Mean teachers, Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780; as in DINO, arXiv 2104.14294, section 3.1.
"""

from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Teacher(nn.Module, Generic[Network]):
    """A second network of the student's shape that starts as its copy and follows it.

    Parameters are averaged, buffers are not: a BatchNorm of the teacher keeps statistics of its own, because it sees
    other views than the student. For the same reason the teacher follows `train()` and `eval()` like any module
    instead of staying in evaluation mode: its BatchNorm must normalise by the batch that it sees. Its drop path is
    whatever its own factory gave it.
    """

    def __init__(self, network: Network, student: nn.Module) -> None:
        super().__init__()
        network.load_state_dict(student.state_dict())
        self.network: Network = network.requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """θ_t ← λ θ_t + (1 - λ) θ_s with λ = `momentum`, for every parameter, in one fused operation."""
        own: list[Tensor] = list(self.network.parameters())
        towards: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(own, towards, 1.0 - momentum)
