"""Pictures and views that several files of tests use."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from smalldata_vit.data.blur import GaussianBlur
from smalldata_vit.data.colour import ColourJitter, Solarize
from smalldata_vit.data.crops import RandomResizedCrop
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.groups import ViewGroup
from smalldata_vit.data.policies import AutoAugment
from smalldata_vit.data.rotation import Rotation
from smalldata_vit.data.views import AugmentedViews

CONF = Path(__file__).parents[2] / "conf" / "views"
STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def pictures(count, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    return made.permute(0, 3, 1, 2)


def sizes(images):
    return torch.tensor([p.shape[-2] for p in images]), torch.tensor([p.shape[-1] for p in images])


def views_of(name, image_size=32):
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")(image_size=image_size, **STATISTICS)


def everything(image_size=32):
    """Every operation at once."""
    group = ViewGroup(
        count=2,
        crop=RandomResizedCrop([0.3, 1.0], [0.75, 1.33], "bicubic"),
        size_ratio=1.0,
        flip=0.5,
        rotation=Rotation(20, 0.5),
        jitter=ColourJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        gray=[0.2, 0.3],
        blur=GaussianBlur([1.0, 0.1], [0.1, 2.0]),
        solarize=Solarize([0.0, 0.2], 128),
        policy=AutoAugment("CIFAR10", fill=128),
        erasing=RandomErasing(0.5, [0.02, 0.4], [0.3, 3.3], "noise"),
    )
    return AugmentedViews({"global": group}, image_size, **STATISTICS)


def slices(views, images, drawn, size):
    """The same global batch in passes, put together again."""
    passes = [
        views(images[first : first + size], drawn.take(slice(first, first + size)))[0]
        for first in range(0, len(images), size)
    ]
    return [torch.cat(group) for group in zip(*passes, strict=True)]


NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
