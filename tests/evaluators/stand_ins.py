"""Methods with a fixed encoder, and images of classes that overlap, for the tests of evaluators."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from smalldata_vit.contracts import Batch, Classifier, Evaluator, Loss, Method, Shown
from smalldata_vit.schedules import Progress


class Fixed(Method):
    """Its features are the first row of the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FirstRow()

    @property
    def encoder(self) -> nn.Module:
        return self.network

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        return Loss(terms={})


class FirstRow(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, 0, 0]


class Naming(Classifier):
    """Its logits are the first row of the first channel."""

    @property
    def encoder(self) -> nn.Module:
        return FirstRow()

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        return Loss(terms={})

    def probe_input(self, features: Tensor) -> Tensor:
        return features

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        raise AssertionError("an evaluator never changes the network it judges")

    def classify(self, image: Tensor) -> Tensor:
        return image[:, 0, 0]


def shown(values: Tensor, label: Tensor, place: Tensor | None = None, index: Tensor | None = None) -> Shown:
    """Images whose features or logits are `values`."""
    image = values[:, None, None, :].expand(-1, 3, values.shape[1], -1).contiguous()
    return Shown(image, label, torch.arange(len(values)) if index is None else index, place)


def part(whole: Shown, rows: Tensor) -> Shown:
    """Some of the images."""
    memory = None if whole.memory is None else whole.memory[rows]
    return Shown(whole.image[rows], whole.label[rows], whole.index[rows], memory)


def classes(images: int, width: int, seed: int, number: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Values, labels and places of images whose classes overlap."""
    centres = torch.randn(number, width, generator=torch.Generator().manual_seed(99))
    label = torch.arange(images) % number
    noise = torch.randn(images, width, generator=torch.Generator().manual_seed(seed))
    return centres[label] + 0.8 * noise, label, torch.arange(images) // number


def judge(evaluator: Evaluator, method: Method, pieces: Iterable[Shown]) -> dict[str, float]:
    """Reset, show with what a classifier says of images to be judged, compute."""
    evaluator.reset()
    with torch.no_grad():
        for piece in pieces:
            names = isinstance(method, Classifier) and piece.memory is None and evaluator.reads_logits
            evaluator.update(method, replace(piece, logits=method.classify(piece.image)) if names else piece)
    return evaluator.compute()
