"""The two sides of guidance: a student that also gives the maps of some of its blocks, and a CNN that is imitated.

Both are asked by timm's contract, `forward_intermediates` and `forward_head`; nothing is hooked into them.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Shape = tuple[int, int, int]
"""Channels, height and width of maps."""


class Tapped(nn.Module):
    """A backbone that gives its features and the maps of some of its blocks in one forward.

    The maps are block outputs before the final norm, without class token, so every block works on all tokens; the
    features equal those of the backbone alone.

    Arguments:
        backbone: shared, not copied.
        blocks: which of the backbone's intermediates, ascending.
    """

    def __init__(self, backbone: nn.Module, blocks: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.blocks = backbone, list(blocks)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B D"], list[Tensor]]:
        """Features, and maps (B, C, h, w) in the order of the blocks."""
        backbone: Any = self.backbone
        last, maps = backbone.forward_intermediates(image, indices=self.blocks)
        return backbone.forward_head(last), list(maps)


class Guide(nn.Module):
    """A trained CNN whose weights never move: images to the maps of some of its stages.

    It sees the student's very views, resized to the size that it was trained on (bilinear, no antialiasing, corners not
    aligned). Its maps are computed without gradient, channels last, which is faster on a CPU as on a GPU.

    Arguments:
        network: without head.
        stages: which of its intermediates, ascending.
        image_size: side of the images that it was trained on, pixels.
        bn_mode: `eval` normalises by what training left behind. `train` does by the images of the pass, as the code of
            Li et al. happens to do: maps then depend on the other images of a pass, and the running statistics go on
            moving (the mean over a step's passes, like any others) and are part of checkpoints.
        mean, std: per channel, with which its own training images were normalised.
        student_mean, student_std: with which the views are; where they differ, views are converted.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[int],
        image_size: int,
        bn_mode: Literal["eval", "train"],
        mean: Sequence[float],
        std: Sequence[float],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.stages, self.image_size, self.bn_mode = list(stages), image_size, bn_mode
        self.mean, self.std = tuple(mean), tuple(std)
        self.converts = (self.mean, self.std) != (tuple(student_mean), tuple(student_std))
        own, others = torch.tensor([self.mean, self.std]), torch.tensor([list(student_mean), list(student_std)])
        self.register_buffer("scale", (others[1] / own[1])[:, None, None], persistent=False)
        self.register_buffer("shift", ((others[0] - own[0]) / own[1])[:, None, None], persistent=False)
        self.norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if bn_mode == "eval":
            for norm in self.norms:  # these statistics are finished: nobody need average them over passes and ranks
                norm.track_running_stats = False
        self.train(self.training)

    def train(self, mode: bool = True) -> "Guide":
        """Only the batch normalisation of `bn_mode=train` has a training mode; dropout and drop path stay off."""
        super().train(mode)
        self.network.eval()
        if self.bn_mode == "train":
            for norm in self.norms:
                norm.train(mode)
        return self

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Maps (B, C, h, w) in the order of the stages."""
        if self.converts:
            image = image * self.scale + self.shift
        size = (self.image_size, self.image_size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=False)
        network: Any = self.network
        image = image.contiguous(memory_format=torch.channels_last)
        return list(network.forward_intermediates(image, indices=self.stages, intermediates_only=True))


def shapes_of(network: nn.Module, image_size: int) -> list[Shape]:
    """The shape of each of a network's intermediates for images of this side, from a forward without numbers.

    ValueError for a network that has none.
    """
    stand_in: Any = copy.deepcopy(network).to("meta").eval()
    try:
        ask = stand_in.forward_intermediates
    except AttributeError as error:
        raise ValueError(
            f"{type(network).__name__} cannot take part in guidance: it has no forward_intermediates that gives the "
            f"outputs of its blocks. Choose another arch, or guidance=none."
        ) from error
    with torch.no_grad(), torch.device("meta"):
        maps = ask(torch.empty(2, 3, image_size, image_size), intermediates_only=True)
    return [(m.shape[1], m.shape[2], m.shape[3]) for m in maps]
