"""A views config written out per image with torchvision, kornia or albumentations: what ours is timed against."""

import random
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import v2

Group = Mapping[str, Any]
PerImage = Callable[[Any], Any]
BICUBIC = {"bicubic": transforms.InterpolationMode.BICUBIC, "bilinear": transforms.InterpolationMode.BILINEAR}


def chance(probability: Any, view: int) -> float:
    """A probability that may be one number, or one for each view."""
    return float(probability[view]) if isinstance(probability, Sequence) else float(probability)


def crops(groups: Mapping[str, Group], image_size: int, one: Callable[[Group, int, int], PerImage]) -> list[PerImage]:
    """One function per view, in the order of the config; `one(group, view, side)` makes it."""
    return [
        one(group, view, round(group["size_ratio"] * image_size))
        for group in groups.values()
        for view in range(group["count"])
    ]


class PillowBlur:
    """Pillow's blur with a radius of the range, as the recipes' code has it."""

    def __init__(self, probability: float, radius: Sequence[float]) -> None:
        self.probability, self.radius = probability, radius

    def __call__(self, image: Image.Image) -> Image.Image:
        """The picture, blurred or not."""
        if random.random() >= self.probability:
            return image
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.radius)))


def pillow(group: Group, view: int, side: int, mean: Sequence[float], std: Sequence[float]) -> PerImage:
    """torchvision's transforms of a Pillow picture, one after another."""
    crop, jitter, blur = group["crop"], group["jitter"], group["blur"]
    colour = transforms.ColorJitter(jitter["brightness"], jitter["contrast"], jitter["saturation"], jitter["hue"])
    steps: list[Any] = [
        transforms.RandomResizedCrop(side, crop["scale"], crop["ratio"], BICUBIC[crop["interpolation"]]),
        transforms.RandomHorizontalFlip(group["flip"]),
        transforms.RandomApply([colour], jitter["probability"]),
        transforms.RandomGrayscale(chance(group["gray"], view)),
        PillowBlur(chance(blur["probability"], view), blur["radius"]),
    ]
    if "solarize" in group:
        solarize = group["solarize"]
        steps.append(transforms.RandomSolarize(solarize["threshold"], chance(solarize["probability"], view)))
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])


def tensors(group: Group, view: int, side: int, mean: Sequence[float], std: Sequence[float]) -> PerImage:
    """torchvision's v2 transforms of a uint8 tensor, the form that its own guide calls the fastest."""
    crop, jitter, blur = group["crop"], group["jitter"], group["blur"]
    colour = v2.ColorJitter(jitter["brightness"], jitter["contrast"], jitter["saturation"], jitter["hue"])
    width = 2 * round(2 * max(blur["radius"])) + 1
    gauss = v2.GaussianBlur(min(width, side // 2 * 2 - 1), tuple(blur["radius"]))
    steps: list[Any] = [
        v2.RandomResizedCrop(side, crop["scale"], crop["ratio"], BICUBIC[crop["interpolation"]], antialias=True),
        v2.RandomHorizontalFlip(group["flip"]),
        v2.RandomApply([colour], jitter["probability"]),
        v2.RandomGrayscale(chance(group["gray"], view)),
        v2.RandomApply([gauss], chance(blur["probability"], view)),
    ]
    if "solarize" in group:
        solarize = group["solarize"]
        steps.append(v2.RandomSolarize(solarize["threshold"], chance(solarize["probability"], view)))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def kornia(group: Group, view: int, side: int, mean: Sequence[float], std: Sequence[float]) -> PerImage:
    """kornia's augmentations of a batch of float pictures, each picture with parameters of its own."""
    K: Any = import_module("kornia.augmentation")  # noqa: N806  # its name everywhere
    crop, jitter, blur = group["crop"], group["jitter"], group["blur"]
    strengths = (jitter["brightness"], jitter["contrast"], jitter["saturation"], jitter["hue"])
    steps: list[Any] = [
        K.RandomResizedCrop(
            (side, side), tuple(crop["scale"]), tuple(crop["ratio"]), resample=crop["interpolation"].upper()
        ),
        K.RandomHorizontalFlip(p=group["flip"]),
        K.ColorJitter(*strengths, p=jitter["probability"]),
        K.RandomGrayscale(p=chance(group["gray"], view)),
        K.RandomGaussianBlur((5, 5), tuple(blur["radius"]), p=chance(blur["probability"], view)),
    ]
    if "solarize" in group:
        threshold = group["solarize"]["threshold"] / 255
        probability = chance(group["solarize"]["probability"], view)
        steps.append(K.RandomSolarize((threshold, threshold), (0.0, 0.0), p=probability))
    return torch.nn.Sequential(*steps, K.Normalize(torch.tensor(mean), torch.tensor(std)))


def albumentations(group: Group, view: int, side: int, mean: Sequence[float], std: Sequence[float]) -> PerImage:
    """albumentations of one picture as an array."""
    A: Any = import_module("albumentations")  # noqa: N806
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    crop, jitter, blur = group["crop"], group["jitter"], group["blur"]
    taps = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}[crop["interpolation"]]
    colour = {name: jitter[name] for name in ("brightness", "contrast", "saturation", "hue")}
    steps: list[Any] = [
        A.RandomResizedCrop((side, side), tuple(crop["scale"]), tuple(crop["ratio"]), taps),
        A.HorizontalFlip(p=group["flip"]),
        A.ColorJitter(**colour, p=jitter["probability"]),
        A.ToGray(p=chance(group["gray"], view)),
        A.GaussianBlur(blur_limit=0, sigma_limit=tuple(blur["radius"]), p=chance(blur["probability"], view)),
    ]
    if "solarize" in group:
        threshold = group["solarize"]["threshold"] / 255
        steps.append(A.Solarize((threshold, threshold), p=chance(group["solarize"]["probability"], view)))
    made = A.Compose([*steps, A.Normalize(tuple(mean), tuple(std))])

    def one(picture: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(made(image=picture)["image"].transpose(2, 0, 1).copy())

    return one
