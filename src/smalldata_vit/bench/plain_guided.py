"""Locality guidance as one would write it with torch and timm alone: the step that ours is timed against.

Li et al., ECCV 2022, arXiv:2207.10026: a DeiT-Tiny learns classes at 224 px, and three of its blocks imitate the three
stages of a frozen ResNet-56 that sees the same images at 32 px and, as in the published code, normalises by the batch.
Nothing of ours is used here but the way to switch bf16 on.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from smalldata_vit.bench.plain import autocast, choose_attention

BLOCKS, CHANNELS = (0, 6, 11), (16, 32, 64)
"""The student's blocks that imitate, and the guide's channels in its stages."""
WEIGHT, GUIDE_SIDE = 2.5, 32
LR, WEIGHT_DECAY = 5e-4, 0.05
Maps = tuple[Tensor, list[Tensor]]


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps."""
        return F.relu(self.shortcut(x) + self.branch(x))


class SmallResNet(nn.Module):
    """A ResNet for 32 px that gives the maps of its three stages; `blocks` in each: 9 for ResNet-56."""

    def __init__(self, blocks: int = 9) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        stages, inputs = [], 16
        for number, outputs in enumerate(CHANNELS):
            first = Residual(inputs, outputs, 1 if number == 0 else 2)
            stages.append(nn.Sequential(first, *(Residual(outputs, outputs, 1) for _ in range(blocks - 1))))
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs of the stages."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


class PlainGuided:
    """Student, guide, projections and optimizer; `step(images, labels)` trains once."""

    def __init__(self, bf16: bool, device: torch.device, classes: int, side: int, width: int = 192) -> None:
        self.bf16, self.device = bf16, device
        self.student = VisionTransformer(
            img_size=side, patch_size=16, num_classes=classes, embed_dim=width, depth=12, num_heads=3,
            drop_path_rate=0.1,
        ).to(device)  # fmt: skip
        choose_attention(self.student, fused=not bf16 or device.type == "cuda")
        self.guide = SmallResNet().to(device).requires_grad_(False)
        self.projections = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in CHANNELS).to(device)
        self.weights = [*self.student.parameters(), *self.projections.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=LR, weight_decay=WEIGHT_DECAY)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One step on images (B, 3, H, W); the loss."""
        with autocast(self.bf16, self.device):
            last, maps = cast(Maps, self.student.forward_intermediates(images, indices=list(BLOCKS)))
            logits = self.student.forward_head(last)
            with torch.no_grad():
                wanted = self.guide(F.interpolate(images, GUIDE_SIDE, mode="bilinear", align_corners=False))
            own = [project(one) for project, one in zip(self.projections, maps, strict=True)]
        guided = torch.stack([distance(a.float(), b.float()) for a, b in zip(own, wanted, strict=True)]).sum()
        loss = F.cross_entropy(logits.float(), labels) + WEIGHT * guided
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the plain loop's loss is {value}")
        return value


def distance(own: Tensor, wanted: Tensor) -> Tensor:
    """Mean square of the difference of maps (B, C, h, w), the smaller resized to the larger."""
    size = max(own.shape[-1], wanted.shape[-1])
    first, second = (F.interpolate(one, size, mode="bilinear", align_corners=False) for one in (own, wanted))
    return F.mse_loss(first, second)
