"""How the weights of a Vision Transformer begin."""

import math
from typing import Literal

from torch import nn

Init = Literal["truncated_normal", "width_aware", "xavier", "torch"]
"""`truncated_normal`: linear weights, position table and class token of standard deviation 0.02, for width 384 and
more, and what DINO, DeiT and Gani et al. use at every width; `width_aware`: linear weights of standard deviation
1/√fan-in, position table at the scale of the patch embedding's output, for narrow networks, whose blocks would hardly
change their input otherwise; `xavier`: Xavier-normal linear weights, the patch convolution as the linear map of
flattened patches that it is, unit-normal position table and class token (ViT and CaiT of Lee et al., SPT and LSA,
arXiv:2112.13492); `torch`: layers as torch makes them, tables of standard deviation 0.02 (their Swin). Tables of
relative positions have standard deviation 0.02 in each."""

PATCH_SCALE = 1 / math.sqrt(3)
"""Standard deviation of the patch embedding's output at the start, for normalised pixels: torch draws a convolution's
weights uniformly from ±1/√fan-in, so each of the fan-in products contributes 1 / (3 fan-in)."""


def initialise(network: nn.Module, init: Init, linear_patches: bool = False) -> None:
    """Draw the weights of a network with timm's names (`pos_embed`, `cls_token`) anew; linear biases become 0.

    The patch convolution keeps torch's own start except with `xavier` or `linear_patches`, which treat it as a linear
    layer (CaiT of Gani et al.); LayerNorms keep 1 and 0.
    """
    if init != "torch":
        for module in network.modules():
            patches = isinstance(module, nn.Conv2d) and (init == "xavier" or linear_patches)
            if isinstance(module, nn.Linear) or patches:
                _draw_layer(module, init)
    _draw_tables(network, init)


def _draw_layer(module: nn.Module, init: Init) -> None:
    weight = module.get_parameter("weight").flatten(1)
    if init == "xavier":
        nn.init.xavier_normal_(weight)
    else:
        nn.init.trunc_normal_(weight, std=1 / math.sqrt(weight.shape[1]) if init == "width_aware" else 0.02)
    bias = dict(module.named_parameters()).get("bias")
    if bias is not None:
        nn.init.zeros_(bias)


def _draw_tables(network: nn.Module, init: Init) -> None:
    """Position tables, then class tokens, then tables of relative positions."""
    parameters = list(network.named_parameters())
    for kind in ("pos_embed", "cls_token", "relative_position_bias_table"):
        for table in (p for name, p in parameters if name.rpartition(".")[2] == kind):
            if init == "xavier" and kind != "relative_position_bias_table":
                nn.init.normal_(table)
            else:
                wide = init == "width_aware" and kind == "pos_embed"
                nn.init.trunc_normal_(table, std=PATCH_SCALE if wide else 0.02)
