"""Pictures under the fifteen common corruptions at five severities: the published arrays, or made here.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019,
arXiv:1903.12261.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from smalldata_vit import randomness
from smalldata_vit.data import corruptions_blur as blur
from smalldata_vit.data import corruptions_digital as digital
from smalldata_vit.data import corruptions_noise as noise
from smalldata_vit.data import corruptions_weather as weather
from smalldata_vit.data.corruptions_levels import TABLES, table_for
from smalldata_vit.data.normalising import per_channel
from smalldata_vit.data.views import PlainView

SEVERITIES = 5
LOST = 0.05
"""Of 1/255: by how much a picture of 8 bits may miss whole numbers once its normalisation is undone."""

CHANGES: Mapping[str, Callable[..., Float[Tensor, "B 3 S S"]]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
"""Images (float32 in 0..1), a level and a generator for each image, to images; frost has photographs besides."""


class Corruptions:
    """Gives test images as a network sees them under a corruption.

    What is made here is a function of the seed, the corruption, its severity and the image's place in its split. It is
    made at the size that the network sees, with the levels of the largest published size that is not above it.

    Arguments:
        mean, std: per channel, with which evaluation normalises; they have to be undone.
        folder: published arrays, `<corruption>.npy` of five times N pictures (N, 32, 32, 3), mildest first, and
            `labels.npy`; None: corruptions are made.
        frost_photographs: folder with the published photographs; None: fractals in their place.
        seed: of what is made.
    """

    names: Sequence[str] = tuple(TABLES[32])
    severities = SEVERITIES

    def __init__(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        folder: str | None = None,
        frost_photographs: str | None = None,
        seed: int = 0,
    ) -> None:
        if mean is None or std is None:
            raise ValueError(
                f"mean={mean} and std={std}: corruptions have to undo what evaluation does to pixels. Where a "
                "dataset's are measured, take a stage's data.json: evaluator.corruptions.source.mean= and .std="
            )
        self.mean, self.std, self.seed = tuple(mean), tuple(std), seed
        self.folder = None if folder is None else Path(folder).expanduser()
        self.photographs = None if frost_photographs is None else Path(frost_photographs).expanduser()
        self.table = 0
        """Side that the levels in use were published for; 0 before the first picture."""
        self._frost: weather.Frost | None = None
        if self.folder is not None:
            missing = [n for n in (*self.names, "labels") if not (self.folder / f"{n}.npy").is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{self.folder} lacks {', '.join(f'{n}.npy' for n in missing)}: it has to be the unpacked "
                    "CIFAR-10-C or CIFAR-100-C; folder=null makes corruptions instead"
                )

    def __call__(
        self,
        images: Float[Tensor, "B 3 S S"],
        label: Int[Tensor, " B"],
        index: Int[Tensor, " B"],
        name: str,
        severity: int,
    ) -> Float[Tensor, "B 3 S S"]:
        """Normalised images of these places in their split under a corruption; severity 1 is the mildest.

        ValueError: the images were not normalised with `mean` and `std`, or are not those of the published arrays.
        """
        if self.folder is not None:
            pictures = self._published(label, index, name, severity)
            return PlainView(images.shape[-1], self.mean, self.std)(pictures.to(images.device))
        mean, std = (per_channel(n, v).to(images.device) for n, v in (("mean", self.mean), ("std", self.std)))
        pixels = images * std + mean
        whole = (pixels * 255).round() / 255
        if bool(((pixels - whole).abs() * 255 > LOST).any()) or bool((whole < 0).any()) or bool((whole > 1).any()):
            raise ValueError(
                f"the images are no pictures of 8 bits normalised with mean={list(self.mean)} and "
                f"std={list(self.std)}: give corruptions the statistics of the stage's evaluation_view"
            )
        self.table = table_for(images.shape[-1])
        draws = [randomness.generator(self.seed, "corruption", name, severity, i) for i in index.tolist()]
        made = self._change(name)(whole, TABLES[self.table][name][severity - 1], draws)
        return (blur.truncated(made) - mean) / std

    def recorded(self) -> dict[str, Any]:
        """What was used, as plain values."""
        if self.folder is not None:
            return {"folder": str(self.folder)}
        frost = "fractal" if self.photographs is None else "photographs"
        return {"made": True, "seed": self.seed, "levels": self.table, "frost": frost}

    def _change(self, name: str) -> Callable[..., Float[Tensor, "B 3 S S"]]:
        if name == "frost":
            if self._frost is None or self._frost.table != self.table:
                self._frost = weather.Frost(self.photographs, self.table)
            return self._frost
        return CHANGES[name]

    def _published(
        self, label: Int[Tensor, " B"], index: Int[Tensor, " B"], name: str, severity: int
    ) -> UInt8[Tensor, "B 3 32 32"]:
        assert self.folder is not None
        pictures = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        labels, place = self._labels, index.cpu().numpy()
        number = len(pictures) // SEVERITIES
        if int(place.max()) >= number or not np.array_equal(labels[place], label.cpu().numpy()):
            raise ValueError(
                f"{self.folder} holds {number} pictures a severity, and their labels are not those of the test images "
                "in their order: the arrays belong to CIFAR-10 or CIFAR-100 as published, no test image left out"
            )
        chosen = np.ascontiguousarray(pictures[(severity - 1) * number + place])
        return torch.from_numpy(chosen).permute(0, 3, 1, 2)

    @cached_property
    def _labels(self) -> Int[np.ndarray, " N"]:
        assert self.folder is not None
        return np.load(self.folder / "labels.npy").astype(np.int64)
