"""How well attention falls on objects: which part of a map is kept, and its overlap with given masks.

The rule is that of DINO (Caron et al., ICCV 2021, arXiv:2104.14294, section 4.2.2): of each map the patches are kept
that hold a share of its mass, largest first; of the heads the one counts that overlaps best.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

ROUNDING = 1e-6
"""Of a map's mass: what float32 may add to a running sum."""


def kept(maps: Float[Tensor, "*shape h w"], keep: float) -> Bool[Tensor, "*shape h w"]:
    """The patches with the largest values that together hold the share `keep` of a map's sum, the last one included.

    Sorted upwards those go whose running sum is at most 1 - keep of the whole. ValueError unless 0 < keep <= 1.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}: the share of the mass that is kept is above 0 and at most 1")
    flat = maps.flatten(-2).double()
    value, order = flat.sort(dim=-1)
    share = (value / value.sum(-1, keepdim=True)).cumsum(-1)
    stays = share > 1 - keep + ROUNDING
    return torch.zeros_like(stays).scatter_(-1, order, stays).unflatten(-1, maps.shape[-2:])


def overlap(found: Bool[Tensor, "*shape H W"], mask: Bool[Tensor, "*shape H W"]) -> Float[Tensor, "*shape"]:
    """Intersection over union; 0 where both are empty."""
    both, either = (found & mask).sum((-2, -1)), (found | mask).sum((-2, -1))
    return both / either.clamp(min=1)


def saliency(
    maps: Float[Tensor, "B heads h w"], masks: Bool[Tensor, "B H W"], keep: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Overlap of each image's best head, and of the mean over heads, with its mask; patches are enlarged unblended."""
    whole = torch.cat([maps, maps.mean(1, keepdim=True)], dim=1)
    large = F.interpolate(kept(whole, keep).float(), size=masks.shape[-2:], mode="nearest") > 0.5
    found = overlap(large, masks[:, None].expand_as(large))
    return found[:, :-1].amax(1), found[:, -1]


def mask_files(folder: Path, names: Sequence[str]) -> dict[int, Path]:
    """The masks of test images, by place: `<name of the image without its suffix>.png`, or `<place>.png`.

    ValueError if there are none, or a file is no test image's or two images'.
    """
    by_name: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        for key in {Path(name).stem, str(place)}:
            by_name.setdefault(key, []).append(place)
    found: dict[int, Path] = {}
    for file in sorted(folder.glob("*.png")):
        places = by_name.get(file.stem, [])
        if len(places) != 1:
            meant = f"{len(places)} test images" if places else "no test image"
            raise ValueError(
                f"{file} belongs to {meant}: a mask is named as its image, or by its place in the test split"
            )
        found[places[0]] = file
    if not found:
        raise ValueError(f"{folder} holds no masks: PNG files named as test images, everything but black is the object")
    return dict(sorted(found.items()))


def read_masks(files: Mapping[int, Path], side: int) -> Bool[Tensor, "B side side"]:
    """Masks made as large as what a network sees, without blending."""
    made = []
    for file in files.values():
        with Image.open(file) as opened:
            resized = opened.convert("L").resize((side, side), Image.Resampling.NEAREST)
        made.append(torch.from_numpy(np.array(resized) > 0))
    return torch.stack(made)
