"""Small networks and batches that the tests of methods share."""

import torch
from torch import Tensor, nn

from smalldata_vit.contracts import Batch, DataFacts
from smalldata_vit.schedules import Progress

FACTS = DataFacts(num_images=37, num_classes=5, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
START = Progress(step=0, total_steps=20, steps_per_epoch=2)
LATER = Progress(step=6, total_steps=20, steps_per_epoch=2)


class TinyBackbone(nn.Module):
    """Features (B, 12) of images of any size: the mean of a convolution's outputs."""

    def __init__(self, drop_path_rate: float = 0.3) -> None:
        super().__init__()
        self.num_features = 12
        self.drop_path_rate = drop_path_rate
        self.patches = nn.Conv2d(3, 12, 2, 2)
        self.mix = nn.Linear(12, 12)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).mean(2)
        return self.mix(torch.tanh(tokens))


def batch(images: int = 4, views: tuple[int, ...] = (2,), size: int = 8, seed: int = 0) -> Batch:
    """Random views: the first group of `size` pixels, the others of half that."""
    generator = torch.Generator().manual_seed(seed)
    sides = [size] + [size // 2] * (len(views) - 1)
    return Batch(
        views=[torch.randn(images, v, 3, s, s, generator=generator) for v, s in zip(views, sides, strict=True)],
        boxes=[torch.zeros(images, v, 4) for v in views],
        flips=[torch.zeros(images, v, dtype=torch.bool) for v in views],
        label=torch.arange(images) % FACTS.num_classes,
        index=torch.arange(images),
        seed=seed,
    )


def rows(whole: Batch, which: slice) -> Batch:
    """Some images of a batch."""
    cut = {name: [group[which] for group in getattr(whole, name)] for name in ("views", "boxes", "flips")}
    return Batch(**cut, label=whole.label[which], index=whole.index[which], seed=whole.seed)
