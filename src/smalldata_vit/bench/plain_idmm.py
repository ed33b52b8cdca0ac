"""IDMM as one would write it with torch and timm alone: the step that ours is timed against.

Cao, Yu and Wu, ECCV 2022, arXiv:2201.10728: every image is a class; two crops of large and four of small parts, all of
112 px, a CutMix for each of the two groups. Nothing of ours is used here but the way to switch bf16 on.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from smalldata_vit.bench.plain import autocast, choose_attention

LR, WEIGHT_DECAY = 5e-4, 1e-3


class PlainIDMM:
    """A DeiT-Tiny with a class for each of `instances` images; `step(groups, index)` trains once."""

    def __init__(
        self, bf16: bool, device: torch.device, instances: int, side: int, width: int = 192, depth: int = 12
    ) -> None:
        self.bf16, self.device = bf16, device
        self.network = VisionTransformer(
            img_size=side, patch_size=16, num_classes=instances, embed_dim=width, depth=depth, num_heads=3,
            drop_path_rate=0.1,
        ).to(device)  # fmt: skip
        choose_attention(self.network, fused=not bf16 or device.type == "cuda")
        self.draw = np.random.default_rng(0)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)

    def step(self, groups: Sequence[Tensor], index: Tensor) -> float:
        """One step on groups of views (V·B, 3, H, W), view after view, of the images `index` (B,); the loss."""
        loss = torch.stack([self.entropy(images, index) for images in groups]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the plain loop's loss is {value}")
        return value

    def entropy(self, images: Tensor, index: Tensor) -> Tensor:
        """The cross-entropy of one group's views, each a blend of two images."""
        mixed, other, share = self.cut_and_mixed(images)
        with autocast(self.bf16, self.device):
            logits = self.network(mixed)
        target = index.repeat(len(images) // len(index))
        own, others = (F.cross_entropy(logits.float(), labels) for labels in (target, target[other]))
        return share * own + (1 - share) * others

    def cut_and_mixed(self, images: Tensor) -> tuple[Tensor, Tensor, float]:
        """Images with a box out of another image each, which that is, and the share of pixels that stayed."""
        height, width = images.shape[2:]
        wanted = self.draw.beta(0.5, 0.5)
        half = math.sqrt(1 - max(wanted, 1 - wanted)) / 2
        row, column = self.draw.integers(height), self.draw.integers(width)
        top, bottom = (min(max(round(row + sign * half * height), 0), height) for sign in (-1, 1))
        left, right = (min(max(round(column + sign * half * width), 0), width) for sign in (-1, 1))
        other = torch.randperm(len(images), device=images.device)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
        return mixed, other, 1 - (bottom - top) * (right - left) / (height * width)
