"""The random choices of a global batch, and how they reach an accelerator: in one copy that nobody waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from smalldata_vit.data.choices import HOST, Choices

ALIGNMENT = 16
"""Bytes: where a tensor may begin for the widest loads of an accelerator."""


@dataclass(frozen=True)
class Drawn:
    """The random choices for a global batch: for each group the parameters (B, V, …) of each operation, by name."""

    groups: Sequence[Mapping[str, Choices]]

    def take(self, places: slice) -> "Drawn":
        """Those of some places of the global batch."""
        return Drawn([some(group, places) for group in self.groups])

    def to(self, device: torch.device) -> "Drawn":
        """The same on a device, but for those that decide what is launched there (`choices.HOST`)."""
        if device.type == "cpu":
            return self
        moving = [v for g in self.groups for c in g.values() for key, v in c.items() if not key.startswith(HOST)]
        there = iter(together(moving, device))
        return Drawn(
            [
                {
                    name: {key: value if key.startswith(HOST) else next(there) for key, value in choices.items()}
                    for name, choices in group.items()
                }
                for group in self.groups
            ]
        )


def some(group: Mapping[str, Choices], places: slice) -> dict[str, Choices]:
    """A group's choices for some images."""
    return {name: {key: value[places] for key, value in choices.items()} for name, choices in group.items()}


def together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the CPU on a device, packed into one; from pinned memory where the device can read it by itself."""
    raw = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    packed = torch.cat([F.pad(each, (0, -len(each) % ALIGNMENT)) for each in raw])
    if device.type == "cuda":
        packed = packed.pin_memory()
    packed, begin, there = packed.to(device, non_blocking=True), 0, []
    for tensor, each in zip(tensors, raw, strict=True):
        there.append(packed[begin : begin + len(each)].view(tensor.dtype).view(tensor.shape))
        begin += len(each) + -len(each) % ALIGNMENT
    return there
