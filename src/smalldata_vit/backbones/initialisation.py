"""How the weights of a Vision Transformer begin."""

import math
from typing import Literal

from torch import nn

Init = Literal["truncated_normal", "width_aware", "xavier"]
"""`truncated_normal`: linear weights, position table and class token of standard deviation 0.02, for width 384 and
more, and what DINO, DeiT and Gani et al. use at every width; `width_aware`: linear weights of standard deviation
1/√fan-in, position table at the scale of the patch embedding's output, for narrow networks, whose blocks would hardly
change their input otherwise; `xavier`: Xavier-normal linear and convolution weights, unit-normal position table and
class token (Lee et al., SPT and LSA, arXiv:2112.13492)."""

PATCH_SCALE = 1 / math.sqrt(3)
"""Standard deviation of the patch embedding's output at the start, for normalised pixels: torch draws a convolution's
weights uniformly from ±1/√fan-in, so each of the fan-in products contributes 1 / (3 fan-in)."""


def initialise(network: nn.Module, init: Init) -> None:
    """Draw the weights of a network with timm's names (`pos_embed`, `cls_token`) anew; linear biases become 0.

    The patch convolution keeps torch's own start except with `xavier`; LayerNorms keep 1 and 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and init == "xavier"):
            _draw_weight(module, init)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    table, class_token = network.get_parameter("pos_embed"), dict(network.named_parameters()).get("cls_token")
    if init == "xavier":
        nn.init.normal_(table)
    else:
        nn.init.trunc_normal_(table, std=PATCH_SCALE if init == "width_aware" else 0.02)
    if class_token is not None:
        nn.init.trunc_normal_(class_token, std=1 if init == "xavier" else 0.02)


def _draw_weight(module: nn.Linear | nn.Conv2d, init: Init) -> None:
    if init == "xavier":
        nn.init.xavier_normal_(module.weight)
    elif init == "width_aware":
        nn.init.trunc_normal_(module.weight, std=1 / math.sqrt(module.weight.shape[1]))
    else:
        nn.init.trunc_normal_(module.weight, std=0.02)
