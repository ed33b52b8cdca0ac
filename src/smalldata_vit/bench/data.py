"""`bench data`: views of images a second, ours beside what others would use, one thread."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from PIL import Image

from smalldata_vit.bench import recipes
from smalldata_vit.bench.harness import Contender, Table, compared, timed
from smalldata_vit.bench.pictures import jpegs, photographs
from smalldata_vit.composition import option
from smalldata_vit.contracts import Views

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Case:
    """A recipe's views and the pictures that they are made of.

    Arguments:
        title: of the table.
        views: option of the group `views`.
        image_size: of the stage, pixels.
        height, width: of the pictures.
        count: different pictures; a batch of ours is all of them.
        coded: whether the pictures lie on disk as JPEG, which per-image transforms decode at every use.
    """

    title: str
    views: str
    image_size: int
    height: int
    width: int
    count: int
    coded: bool = False


CASES = (
    Case("views, CIFAR 2x32+8x16", "multicrop", 32, 32, 32, 128),
    Case("views, Tiny-ImageNet 2x64+8x32", "multicrop", 64, 64, 64, 64),
    Case("views, IDMM 6x112 from 500x667", "idmm", 112, 500, 667, 16, coded=True),
)


def built(case: Case) -> Views:
    """Our views as a stage builds them of the option's file."""
    return instantiate(option("views", case.views), _convert_="all")(image_size=case.image_size, mean=MEAN, std=STD)


def ours(case: Case, pictures: np.ndarray, device: torch.device, compiled: bool = False) -> Contender:
    """Drawing and making, as training does it with decoded pictures that stay in memory."""
    views = built(case)
    if compiled:
        views.compile()
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device)
    heights, widths = torch.full((len(batch),), case.height), torch.full((len(batch),), case.width)
    steps = iter(range(10**9))

    def work() -> None:
        views(batch, views.draw(0, next(steps), heights, widths).to(device))

    name = "ours, compiled" if compiled else "ours"
    return Contender(name, timed(work, len(batch)), f"decoded once; {views.path(device)}")


def each(
    items: Sequence[Any], opened: Callable[[Any], Any], made: Sequence[Callable[[Any], Any]]
) -> Callable[[], None]:
    """All views of the next picture, one picture after another."""
    turns = iter(range(10**9))

    def work() -> None:
        picture = opened(items[next(turns) % len(items)])
        for view in made:
            view(picture)

    return work


def decoded(file: bytes) -> Image.Image:
    """A JPEG's pixels."""
    return Image.open(io.BytesIO(file)).convert("RGB")


def rivals(case: Case, pictures: np.ndarray) -> list[Contender]:
    """The others, with the numbers of the same file; the first is what all are compared with."""
    groups = option("views", case.views)["groups"]

    def views_of(one: Callable[..., Any]) -> list[Callable[[Any], Any]]:
        return recipes.crops(groups, case.image_size, partial(one, mean=MEAN, std=STD))

    images = [Image.fromarray(picture) for picture in pictures]
    pillow = views_of(recipes.pillow)
    found = [Contender("torchvision, Pillow", timed(each(images, lambda image: image, pillow), 1), "per image")]
    if case.coded:
        files = jpegs(case.count, case.height, case.width)
        found.insert(0, Contender("torchvision, Pillow from JPEG", timed(each(files, decoded, pillow), 1), "per image"))
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    v2_views = views_of(recipes.tensors)
    found.append(Contender("torchvision v2, tensors", timed(each(list(batch), lambda t: t, v2_views), 1), "per image"))
    if find_spec("kornia") is not None:
        floats, together = batch.float() / 255, views_of(recipes.kornia)
        found.append(Contender("kornia", timed(each([floats], lambda t: t, together), len(batch)), "batched"))
    if find_spec("albumentations") is not None:
        arrays = views_of(recipes.albumentations)
        found.append(Contender("albumentations", timed(each(list(pictures), lambda a: a, arrays), 1), "per image"))
    return found


def table(case: Case, rounds: int, peers: Sequence[Contender] = (), compiled: bool = False) -> Table:
    """One recipe's table; `compiled`: with our compiled form too, which takes minutes to make."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures = photographs(case.count, case.height, case.width)
    own = [ours(case, pictures, device), *([ours(case, pictures, device, True)] if compiled else [])]
    return compared(case.title, [*rivals(case, pictures), *own, *peers], rounds)
