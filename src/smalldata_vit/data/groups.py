"""A group of equally large views: what is drawn for each, and how they are made of that."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smalldata_vit import randomness
from smalldata_vit.contracts import Pictures
from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.choices import Choices, Numbers, Operation, Probability, happens
from smalldata_vit.data.colour import ColourJitter, Grayscale, Solarize
from smalldata_vit.data.crops import Crop, Crops, values
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.rotation import Rotation


@runtime_checkable
class Change(Operation, Protocol):
    """An operation that also has a form of fixed shapes, which never asks the device."""

    def masked(self, images: Float[Tensor, "n 3 H W"], choices: Choices) -> Float[Tensor, "n 3 H W"]:
        """The changed views, computed for all and taken where the choices say so; may write into `images`."""


Graph = Callable[[Pictures | Crops, Mapping[str, Choices], int, Tensor, Tensor, bool], Float[Tensor, "n 3 side side"]]
"""`ViewGroup.masked` or its compiled form."""


class ViewGroup:
    """Equally large views of each image. The order of operations is that of the arguments, but for `flip_last`.

    Arguments:
        count: V, views of an image; 0 leaves the group out.
        crop: where a view is cut.
        size: side of a view in pixels; or
        size_ratio: side as a share of the stage's image size.
        flip, gray: probabilities, one number or a list with one for each view, as everywhere.
        policy: AutoAugment, RandAugment and the like.
        erasing: of normalised values.
        flip_last: whether views are mirrored after the policy, not when they are cut. It matters to a policy whose
            rotations or shears keep their sign: mirrored afterwards, they go both ways (IDMM's fine-tuning).
    """

    def __init__(
        self,
        count: int,
        crop: Crop,
        size: int | None = None,
        size_ratio: float | None = None,
        flip: Probability = 0.0,
        rotation: Rotation | None = None,
        jitter: ColourJitter | None = None,
        gray: Probability = 0.0,
        blur: GaussianBlur | None = None,
        solarize: Solarize | None = None,
        policy: Operation | None = None,
        erasing: RandomErasing | None = None,
        flip_last: bool = False,
    ) -> None:
        if (size is None) == (size_ratio is None):
            raise ValueError(f"size={size}, size_ratio={size_ratio}: exactly one of them gives the side of a view")
        self.count, self.crop, self.flip, self.erasing = count, crop, flip, erasing
        self.size, self.size_ratio = size, size_ratio
        self.policy, self.flip_last = policy, flip_last
        given = {"rotation": rotation, "jitter": jitter, "gray": Grayscale(gray), "blur": blur, "solarize": solarize}
        self.changes: dict[str, Change] = {name: change for name, change in given.items() if change is not None}

    def side(self, image_size: int) -> int:
        """Pixels of a view's side; ValueError if the ratio gives no whole number."""
        if self.size is not None:
            return self.size
        side = image_size * float(self.size_ratio or 0)
        if side < 1 or abs(side - round(side)) > 1e-6:
            raise ValueError(
                f"size_ratio={self.size_ratio} of image_size={image_size} is {side:g} pixels: give a ratio that makes "
                f"whole pixels, for example {max(1, round(side))}/{image_size}, or size={max(1, round(side))}"
            )
        return round(side)

    def draw(
        self, stream: tuple[int | str, ...], heights: Int[Tensor, " B"], widths: Int[Tensor, " B"], side: int
    ) -> dict[str, Choices]:
        """All choices; an operation's numbers come from a generator of its own, so each can change alone."""

        def uniform(name: str, numbers: int) -> Numbers:
            return randomness.generator(*stream, name).random((len(heights), self.count, numbers))

        boxes = self.crop.draw(uniform("crop", self.crop.numbers), heights.numpy(), widths.numpy(), side)
        drawn = {"crop": {"box": boxes, "flip": happens(uniform("flip", 1)[..., 0], self.flip)}}
        for name, change in self.changes.items():
            drawn[name] = change.draw(uniform(name, change.numbers))
        if self.policy is not None:
            drawn["policy"] = self.policy.draw(uniform("policy", self.policy.numbers))
        if self.erasing is not None:
            drawn["erasing"] = self.erasing.draw(uniform("erasing", self.erasing.numbers), side)
        return drawn

    def by_rows(
        self, pictures: Pictures, drawn: Mapping[str, Choices], side: int, mean: Tensor, std: Tensor
    ) -> Float[Tensor, "n 3 side side"]:
        """The normalised views of some pictures, view after view of each, n = B V; each change only where it is."""
        crop, flat = drawn["crop"], flattened(drawn)
        images = values(self.crop(pictures, crop["box"], self._flips(crop), side))
        for name, change in self.changes.items():
            images = change(images, flat[name])
        return self._finished(self._policed(images, flat), flat, mean, std)

    def fixed(
        self, graph: Graph, pictures: Pictures, drawn: Mapping[str, Choices], side: int, mean: Tensor, std: Tensor
    ) -> Float[Tensor, "n 3 side side"]:
        """The same by `graph`, all changes in all rows; what has no fixed shapes is done before and after it."""
        crop, apart = drawn["crop"], self.crop.apart(pictures, side)
        source = self.crop(pictures, crop["box"], self._flips(crop), side) if apart else pictures
        known = {name: choices for name, choices in drawn.items() if name != "policy"}
        images = graph(source, known, side, mean, std, apart)
        if self.policy is None:
            return images
        flat = flattened(drawn)
        return self._finished(self._policed(images, flat), flat, mean, std)

    def masked(
        self, source: Pictures | Crops, drawn: Mapping[str, Choices], side: int, mean: Tensor, std: Tensor, cut: bool
    ) -> Float[Tensor, "n 3 side side"]:
        """Arithmetic of fixed shapes from pictures, or from crops if they are `cut`; up to the policy if there is one.

        No shape depends on the choices, and nothing is read by the host: it can be compiled and waits for nothing.
        """
        crop, flat = drawn["crop"], flattened(drawn)
        crops = source if cut else self.crop(source, crop["box"], self._flips(crop), side)
        if not isinstance(crops, Tensor):
            raise TypeError(f"crops are tensors, not {type(crops).__name__}: only pictures may be lists")
        images = values(crops)
        for name, change in self.changes.items():
            images = change.masked(images, flat[name])
        return images if self.policy is not None else self._finished(images, flat, mean, std)

    def _flips(self, crop: Choices) -> Bool[Tensor, "B V"]:
        """Which views are mirrored when they are cut."""
        return torch.zeros_like(crop["flip"]) if self.flip_last else crop["flip"]

    def _policed(self, images: Float[Tensor, "n 3 S S"], flat: Mapping[str, Choices]) -> Float[Tensor, "n 3 S S"]:
        return images if self.policy is None else self.policy(images, flat["policy"])

    def _finished(
        self, images: Float[Tensor, "n 3 S S"], flat: Mapping[str, Choices], mean: Tensor, std: Tensor
    ) -> Float[Tensor, "n 3 S S"]:
        if self.flip_last:
            images = torch.where(flat["crop"]["flip"][:, None, None, None], images.flip(-1), images)
        images = images.sub_(mean).div_(std)
        return images if self.erasing is None else self.erasing(images, flat["erasing"], mean, std)


def flattened(drawn: Mapping[str, Choices]) -> dict[str, Choices]:
    """Choices (n, …), n = B V, view after view of each picture."""
    return {name: {key: value.flatten(0, 1) for key, value in choices.items()} for name, choices in drawn.items()}
