"""How images become what a stage trains on, and what evaluation sees: batched, each image with its own parameters."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from smalldata_vit.contracts import Pictures
from smalldata_vit.data.choices import Choices
from smalldata_vit.data.crops import resized
from smalldata_vit.data.drawn import Drawn, some
from smalldata_vit.data.groups import Graph, ViewGroup
from smalldata_vit.data.normalising import Normalisation, full_precision
from smalldata_vit.data.resampling import Interpolation

CHUNK_PIXELS = 2**17
"""Pixels of views that a CPU makes at a time, so that they stay in its cache; an accelerator makes all at once."""

Form = Literal["auto", "eager", "compiled"]


class AugmentedViews:
    """Random views of training images (a `contracts.Views`), float32, normalised.

    On the CPU, eager, the bits of an image's views depend only on its pixels and on (seed, step, place in the global
    batch), however a batch is cut into passes (blurred views above 64 px: if their side is a multiple of 8). Compiled,
    or on an accelerator, sums may be rounded differently for another cut: by at most 2e-5 after normalising, where
    solarize or a policy does not make a step of that.

    Arguments:
        groups: by name, in the order in which a method sees them.
        image_size: the stage's, pixels.
        dataset_mean, dataset_std: for each channel of values 0..1.
        mean, std: used instead of the dataset's where they are given.
        form: of the arithmetic after the drawing. `eager`: on a CPU each change only for the views that it is meant
            for, on an accelerator for all views, so that nothing is asked of the device. `compiled`: the latter as one
            graph of inductor's, for passes as large as the first; others, the ragged last for one, are made eagerly.
            `auto`: eager until `compile` is called.
    """

    def __init__(
        self,
        groups: Mapping[str, ViewGroup],
        image_size: int,
        dataset_mean: Sequence[float] | None = None,
        dataset_std: Sequence[float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        form: Form = "auto",
    ) -> None:
        self.groups = {name: group for name, group in groups.items() if group.count > 0}
        if not self.groups:
            raise ValueError(f"no view of an image is left: the groups {list(groups)} all have count=0")
        self.sides = {name: group.side(image_size) for name, group in self.groups.items()}
        self.normalisation = Normalisation(mean, std, dataset_mean, dataset_std)
        self.form, self.graphs, self.compiled_for = form, dict[str, Graph](), 0
        one = torch.tensor([image_size])
        self.draw(0, 0, one, one)  # what does not fit (a list of probabilities, say) is refused before training
        if form == "compiled":
            self.compile()

    def compile(self, backend: str = "inductor") -> None:
        """Compile the arithmetic after the drawing when it is first used, unless `form` is eager."""
        if self.form != "eager":
            self.graphs = {
                name: torch.compile(group.masked, fullgraph=True, dynamic=False, backend=backend)
                for name, group in self.groups.items()
            }

    def path(self, device: torch.device) -> str:
        """Which form runs on a device, in a few words."""
        if self.graphs:
            return "compiled"
        return "eager, by rows" if device.type == "cpu" else "eager, with fixed shapes"

    def draw(self, seed: int, step: int, heights: Int[Tensor, " B"], widths: Int[Tensor, " B"]) -> Drawn:
        """Choices for a global batch whose pictures have these sizes, on the CPU."""
        return Drawn(
            [
                group.draw((seed, "views", step, name), heights, widths, self.sides[name])
                for name, group in self.groups.items()
            ]
        )

    @torch.no_grad()
    def __call__(
        self, pictures: Pictures, drawn: Drawn
    ) -> tuple[list[Float[Tensor, "B _ 3 _ _"]], list[Float[Tensor, "B _ 4"]], list[Bool[Tensor, "B _"]]]:
        """Views, boxes (top, left, height, width in the picture) and flips, a list entry per group."""
        crops = [group["crop"] for group in drawn.groups]
        boxes, flips = [c["box"] for c in crops], [c["flip"] for c in crops]
        if len(pictures) != len(boxes[0]):
            raise ValueError(f"{len(pictures)} pictures, but choices were drawn for {len(boxes[0])}")
        self.compiled_for = self.compiled_for or len(pictures)
        with full_precision(boxes[0].device):
            views = [self._group(name, pictures, d) for name, d in zip(self.groups, drawn.groups, strict=True)]
        return views, boxes, flips

    def _group(self, name: str, pictures: Pictures, drawn: Mapping[str, Choices]) -> Float[Tensor, "B V 3 S S"]:
        group, side, device, whole = self.groups[name], self.sides[name], drawn["crop"]["box"].device, len(pictures)
        graph = self._graph(name, device, whole)
        most = max(1, CHUNK_PIXELS // (group.count * side * side)) if device.type == "cpu" else max(1, whole)
        step = -(-whole // max(1, -(-whole // most)))  # of equal chunks, as few as possible
        made = torch.empty(whole, group.count, 3, side, side, device=device)
        for end in range(step, whole + step, step) if whole else ():
            few = slice(min(end, whole) - step, min(end, whole))  # the last one overlaps: a graph knows one size
            rest = (pictures[few], some(drawn, few), side, *self.normalisation.on(device))
            views = group.by_rows(*rest) if graph is None else group.fixed(graph, *rest)
            made[few] = views.unflatten(0, (-1, group.count))
        return made

    def _graph(self, name: str, device: torch.device, whole: int) -> Graph | None:
        """The arithmetic of fixed shapes, compiled or not; None where it is done by rows."""
        if self.graphs and whole == self.compiled_for:
            return self.graphs[name]
        return None if device.type == "cpu" else self.groups[name].masked


class PlainView:
    """What evaluation sees: resized, the middle cut out, normalised.

    Arguments:
        image_size: side of the result, pixels.
        dataset_mean, dataset_std: for each channel of values 0..1.
        mean, std: used instead of the dataset's where they are given.
        resize_ratio: side before the cut over `image_size` (IDMM: 256/224).
        interpolation: antialiased, rounded to 8 bits.
        mode: `squash` makes a square of the picture; `shorter` resizes its shorter side and keeps its shape.
    """

    def __init__(
        self,
        image_size: int,
        dataset_mean: Sequence[float] | None = None,
        dataset_std: Sequence[float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resize_ratio: float = 1.0,
        interpolation: Interpolation = "bicubic",
        mode: Literal["squash", "shorter"] = "squash",
    ) -> None:
        if resize_ratio < 1:
            raise ValueError(f"resize_ratio={resize_ratio} is below 1: the cut would be larger than the picture")
        self.image_size, self.shorter = image_size, round(image_size * resize_ratio)
        self.interpolation: Interpolation = interpolation
        self.mode, self.normalisation = mode, Normalisation(mean, std, dataset_mean, dataset_std)

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Float[Tensor, "B 3 S S"]:
        """The pictures, float32, on their device."""
        if isinstance(pictures, Tensor):
            seen = self._middle(pictures)
        else:
            seen = torch.cat([self._middle(picture[None]) for picture in pictures])
        mean, std = self.normalisation.on(seen.device)
        return seen.float().div_(255).sub_(mean).div_(std)

    def _middle(self, pictures: UInt8[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B 3 S S"]:
        height, width = pictures.shape[-2:]
        longer = int(self.shorter * max(height, width) / min(height, width)) if self.mode == "shorter" else self.shorter
        sides = (longer, self.shorter) if height > width else (self.shorter, longer)
        whole = resized(pictures, sides, self.interpolation)
        top, left = (round((side - self.image_size) / 2) for side in sides)
        return whole[..., top : top + self.image_size, left : left + self.image_size]
