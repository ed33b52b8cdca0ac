"""What goes through the network in one step: which images, with which random choices, cut into passes."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from smalldata_vit.contracts import Drawn, Pictures, Ragged


@dataclass(frozen=True)
class Pass:
    """What goes through one forward: which images, with which random choices, and how much they count."""

    index: Int[Tensor, " B"]
    drawn: Drawn
    seed: int
    weight: float
    """The images of this pass over those of the step; 0 for a stand-in that only keeps ranks together."""
    place: int
    """Place of its first image in the global batch."""
    total: int | None
    """Images in the global batch when masks are drawn for all of it (no `pass_size`), else None."""
    pictures: Pictures | None = None
    """The images themselves, where they were fetched ahead; None where they lie beside the network anyway."""

    def to(self, device: torch.device) -> "Pass":
        """The same on a device; called in the thread that draws ahead, so that training waits for no copy."""
        pictures = None if self.pictures is None else on(device, self.pictures)
        return replace(self, index=self.index.to(device), drawn=self.drawn.to(device), pictures=pictures)


@dataclass(frozen=True)
class Step:
    """The passes that this rank makes of one optimizer step."""

    number: int
    images: int
    passes: list[Pass]
    shares: tuple[int, ...] = ()
    """Images of each rank."""


def on(device: torch.device, pictures: Pictures) -> Pictures:
    """The pictures on a device."""
    if isinstance(pictures, Tensor):
        return pictures.to(device, non_blocking=True)
    if isinstance(pictures, Ragged):
        return pictures.to(device)
    return [picture.to(device, non_blocking=True) for picture in pictures]
