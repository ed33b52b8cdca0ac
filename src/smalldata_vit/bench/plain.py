"""DINO as one would write it with torch and timm alone: the loop that ours is timed against.

Caron et al., ICCV 2021, arXiv:2104.14294, in the small form of Gani et al., BMVC 2022: two views of 32 px and eight of
16, a ViT of width 192 with nine blocks, a head of 512-512-256-1024. Nothing of ours is used here.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

PROTOTYPES = 1024


def network(fused_attention: bool, drop_path: float, width: int, depth: int, side: int, patch: int) -> nn.Module:
    """timm's ViT without a head; `fused_attention`: torch's kernel, else written out."""
    made = VisionTransformer(
        img_size=side, patch_size=patch, num_classes=0, embed_dim=width, depth=depth, num_heads=12, mlp_ratio=2,
        drop_path_rate=drop_path, dynamic_img_size=True,
    )  # fmt: skip
    choose_attention(made, fused_attention)
    return made


def choose_attention(network: VisionTransformer, fused: bool) -> None:
    """torch's kernel, else the softmax written out."""
    block: Any
    for block in network.blocks:
        block.attn.fused_attn = fused


def autocast(bf16: bool, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 where it is asked for."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


class Head(nn.Module):
    """Three layers, a unit sphere, prototypes of length one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 256)]
        self.layers, self.last = nn.Sequential(*layers), weight_norm(nn.Linear(256, PROTOTYPES, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.last(F.normalize(self.layers(x), dim=-1))


class PlainDINO:
    """Student, teacher, centre and optimizer; `step(views)` trains once."""

    def __init__(
        self,
        bf16: bool,
        fused_attention: bool,
        device: torch.device,
        width: int = 192,
        depth: int = 9,
        side: int = 32,
        patch: int = 4,
    ) -> None:
        self.bf16, self.device = bf16, device
        self.student = nn.Sequential(network(fused_attention, 0.1, width, depth, side, patch), Head(width)).to(device)
        self.teacher = nn.Sequential(network(fused_attention, 0.0, width, depth, side, patch), Head(width)).to(device)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.centre = torch.zeros(PROTOTYPES, device=device)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-4, weight_decay=0.04)

    def step(self, large: Sequence[Tensor], small: Sequence[Tensor]) -> float:
        """One step on lists of views (B, 3, H, W); the loss, which the host waits for, as such loops print it."""
        with autocast(self.bf16, self.device):
            backbone, head = self.student[0], self.student[1]
            features = [backbone(torch.cat(list(views))) for views in (large, small) if views]
            logits = head(torch.cat(features))
            with torch.no_grad():
                taught = self.teacher(torch.cat(list(large)))
        loss = self.loss(logits.float(), taught.float(), len(large), len(large) + len(small))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 3.0)
        self.optimizer.step()
        with torch.no_grad():
            for own, towards in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                own.mul_(0.996).add_(towards.detach(), alpha=0.004)
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the plain loop's loss is {value}")
        return value

    def loss(self, logits: Tensor, taught: Tensor, large: int, views: int) -> Tensor:
        """Cross-entropy over pairs of different views; moves the centre."""
        student = F.log_softmax(logits / 0.1, dim=-1).chunk(views)
        targets = F.softmax((taught - self.centre) / 0.04, dim=-1).chunk(large)
        pairs = [-(t * s).sum(-1).mean() for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
        self.centre = self.centre * 0.9 + taught.mean(0) * 0.1
        return torch.stack(pairs).mean()


def made_views(
    batch: int, side: int, large: int, small: int, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Noise in the shape of views, for timing the step alone."""
    return (
        [torch.randn(batch, 3, side, side, device=device) for _ in range(large)],
        [torch.randn(batch, 3, side // 2, side // 2, device=device) for _ in range(small)],
    )


def bare_epochs(dino: PlainDINO, dataset: Any, batch: int, workers: int) -> Callable[[int], None]:
    """The bare loop with torch's DataLoader over a dataset whose items are lists of views; `run(steps)`."""

    def run(steps: int) -> None:
        loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, drop_last=True, num_workers=workers)
        done = 0
        while done < steps:
            for views in loader:
                on = [view.to(dino.device) for view in views]
                dino.step(on[:2], on[2:])
                done += 1
                if done == steps:
                    break

    return run
