"""The small residual networks for 32-pixel images: three stages of basic blocks on a 3 x 3 stem.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385, section 4.2; with the shortcuts
and the start of the guide of Li et al., Locality Guidance, ECCV 2022, arXiv:2207.10026.
"""

import math
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smalldata_vit.backbones import drop_path
from smalldata_vit.backbones.intermediates import Indices, chosen

STAGES = 3
"""Each halves the side of its input but the first, and doubles the channels."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm beside a shortcut, then ReLU.

    The shortcut is a 1 x 1 convolution with BatchNorm where the shape changes (option B), else the identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, rate: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.drop_path = drop_path.DropPath(rate)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B C h w"]:
        """Maps after ReLU."""
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + self.drop_path(branch))


class ResNetCIFAR(nn.Module):
    """Images (B, 3, H, W) to features (B, 4 width); its intermediates are the three stages' outputs after ReLU."""

    def __init__(self, width: int, rates: list[float]) -> None:
        super().__init__()
        self.num_features = width * 2 ** (STAGES - 1)
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        each, inputs = len(rates) // STAGES, width
        stages = []
        for stage in range(STAGES):
            outputs, blocks = width * 2**stage, []
            for number in range(each):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(BasicBlock(inputs, outputs, stride, rates[stage * each + number]))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.feature_info = [
            {"num_chs": width * 2**stage, "reduction": 2**stage, "module": f"stages.{stage}"} for stage in range(STAGES)
        ]

    def forward_intermediates(
        self,
        x: Float[Tensor, "B 3 H W"],
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """(Last maps, the outputs of the stages in `indices`), or those outputs alone, as timm's networks give them.

        There is no norm behind a stage, so `norm` changes nothing. ValueError: a stage that there is not, or NLC.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"The intermediates of a CNN are maps, NCHW; they do not come as {output_fmt!r}.")
        wanted, maps = chosen(STAGES, indices), []
        x = F.relu(self.bn1(self.conv1(x)))
        for number, stage in enumerate(self.stages):
            if stop_early and number > max(wanted, default=-1):
                break
            x = stage(x)
            if number in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def forward_features(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """The maps of the last stage."""
        last, _ = self.forward_intermediates(x, indices=[])
        return last

    def forward_head(self, x: Float[Tensor, "B D h w"], pre_logits: bool = False) -> Float[Tensor, "B D"]:
        """Their mean over all places; there is no layer behind it that `pre_logits` could leave out."""
        return x.mean((2, 3))

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Features."""
        return self.forward_head(self.forward_features(x))


def resnet_cifar(depth: int, width: int = 16, drop_path_rate: float = 0.0) -> ResNetCIFAR:
    """A freshly initialised network of `depth` = 6 n + 2 layers (20, 32, 44, 56, 110), the head's among them.

    `width`: channels of the first stage; 16 in both papers. `drop_path_rate`: of the last block, from 0 in a straight
    line; 0 in both. Convolutions start normal with standard deviation √(2 / fan-out), BatchNorms as 1 and 0.
    ValueError for another depth.
    """
    if depth < 8 or (depth - 2) % 6:
        below = max(8, (depth - 2) // 6 * 6 + 2)
        raise ValueError(
            f"depth={depth}: three stages of two-layer blocks make 6 n + 2 layers, {below} or {below + 6}."
        )
    blocks = (depth - 2) // 2
    network = ResNetCIFAR(width, drop_path.rates(drop_path_rate, blocks, "linear"))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    return network
