"""`views.npz`: a few training images of the first step as they go into the network, and as evaluation would see them.

    index           int32 (I,)            place in the training set
    plain           uint8 (I, S, S, 3)    what evaluation sees of them
    views_<group>   uint8 (I, V, s, s, 3) the views of a group, in the order in which the config names the groups

I is at most `IMAGES`, and fewer where they would take more than `MOST_BYTES` before compression; one is always kept.
What a method does to views itself (mixing) is not in them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from smalldata_vit.assembly import Assembly
from smalldata_vit.atomic import replaced
from smalldata_vit.contracts import Views
from smalldata_vit.data.splits import Splits
from smalldata_vit.predictions import in_colours, normalisation_of

FILE = "views.npz"
IMAGES = 6
MOST_BYTES = 4_000_000


def keep_views(config: Mapping[str, Any], stage: Assembly, views: Views, folder: Path) -> None:
    """Write the file; `views` are the stage's, made anew, so that compiled ones do not take up another size."""
    images = stage.learner.images
    index = torch.from_numpy(stage.learner.course.order(config["seed"], 0))
    drawn = views.draw(config["seed"], 0, images.heights.cpu()[index], images.widths.cpu()[index])
    first, _, _ = views(images.take(index[:1].to(images.device)), drawn.take(slice(0, 1)).to(images.device))
    count = max(1, min(IMAGES, len(index), MOST_BYTES // sum(group[0].numel() for group in first)))
    pictures = images.take(index[:count].to(images.device))
    made, _, _ = views(pictures, drawn.take(slice(0, count)).to(images.device))
    arrays: dict[str, np.ndarray] = {
        "index": index[:count].numpy().astype(np.int32),
        "plain": colours(stage.judge.view(pictures), config["evaluation_view"], stage),
    }
    for name, group in zip(group_names(config["views"], len(made)), made, strict=True):
        arrays[f"views_{name}"] = colours(group, config["views"], stage)
    with replaced(folder / FILE) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def colours(seen: Tensor, node: Mapping[str, Any], stage: Assembly) -> np.ndarray:
    """Normalised images as 8-bit pixels."""
    return in_colours(seen, *normalisation_of(node, stage.splits)).numpy()


def group_names(node: Mapping[str, Any], count: int) -> Sequence[str]:
    """What the groups of views are called in the config, or their numbers if it names others."""
    named = [name for name, group in node.get("groups", {}).items() if group.get("count", 1) > 0]
    return named if len(named) == count else [str(number) for number in range(count)]


def eager(node: Mapping[str, Any]) -> dict[str, Any]:
    """A config of views whose arithmetic is not compiled."""
    return {**node, **({"form": "eager"} if "form" in node else {})}


def views_apart(config: Mapping[str, Any], splits: Splits) -> Views:
    """The stage's views once more, uncompiled, for pictures of what the network sees."""
    factory = instantiate(eager(config["views"]), _convert_="all")
    return factory(image_size=config["image_size"], dataset_mean=splits.mean, dataset_std=splits.std)
