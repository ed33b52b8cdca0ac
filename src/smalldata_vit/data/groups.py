"""A group of equally large views: what is drawn for each, and how they are made of that."""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit import randomness
from smalldata_vit.contracts import Pictures
from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.choices import Choices, Numbers, Operation, Probability, happens
from smalldata_vit.data.colour import ColourJitter, Grayscale, Solarize
from smalldata_vit.data.crops import Crop
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.rotation import Rotation


class ViewGroup:
    """Equally large views of each image. The order of operations is that of the arguments.

    Arguments:
        count: V, views of an image; 0 leaves the group out.
        crop: where a view is cut.
        size: side of a view in pixels; or
        size_ratio: side as a share of the stage's image size.
        flip, gray: probabilities, one number or a list with one for each view, as everywhere.
        policy: AutoAugment or RandAugment.
        erasing: of normalised values.
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
    ) -> None:
        if (size is None) == (size_ratio is None):
            raise ValueError(f"size={size}, size_ratio={size_ratio}: exactly one of them gives the side of a view")
        self.count, self.crop, self.flip, self.erasing = count, crop, flip, erasing
        self.size, self.size_ratio = size, size_ratio
        given = {"rotation": rotation, "jitter": jitter, "gray": Grayscale(gray), "blur": blur, "solarize": solarize}
        self.operations: dict[str, Operation] = {
            name: operation for name, operation in {**given, "policy": policy}.items() if operation is not None
        }

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
        for name, operation in self.operations.items():
            drawn[name] = operation.draw(uniform(name, operation.numbers))
        if self.erasing is not None:
            drawn["erasing"] = self.erasing.draw(uniform("erasing", self.erasing.numbers), side)
        return drawn

    def make(
        self, pictures: Pictures, drawn: Mapping[str, Choices], side: int, mean: Tensor, std: Tensor
    ) -> Float[Tensor, "n 3 side side"]:
        """The normalised views of some pictures, view after view of each, n = B V."""
        images = self.crop(pictures, drawn["crop"]["box"], drawn["crop"]["flip"], side)
        flat = {name: {key: value.flatten(0, 1) for key, value in c.items()} for name, c in drawn.items()}
        for name, operation in self.operations.items():
            images = operation(images, flat[name])
        images = images.sub_(mean).div_(std)
        return images if self.erasing is None else self.erasing(images, flat["erasing"], mean, std)
