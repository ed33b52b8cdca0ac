"""How linear layers begin in the networks of stages and soft splits."""

from typing import Literal

from torch import Tensor, nn

LinearInit = Literal["truncated_normal", "normal"]
"""Of standard deviation 0.02 both; the first is cut at ±2 and could be told from the second only there."""


def draw(tensor: Tensor, init: LinearInit) -> None:
    """Draw a weight or a token."""
    if init == "normal":
        nn.init.normal_(tensor, std=0.02)
    else:
        nn.init.trunc_normal_(tensor, std=0.02)


def draw_linear(network: nn.Module, init: LinearInit) -> None:
    """Draw the weights of all linear layers anew, with biases of 0; convolutions and norms keep torch's start."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            draw(module.weight, init)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
