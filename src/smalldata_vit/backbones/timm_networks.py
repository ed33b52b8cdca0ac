"""Any network of timm by its name, as a network without a head for images of our size.

Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

import difflib
import inspect
from typing import Any

import timm
import torch
from torch import nn

from smalldata_vit.backbones.drop_path import replace_drop_paths


def network(
    name: str, image_size: int, drop_path_rate: float, patch_size: int | None = None, pretrained: bool = False
) -> nn.Module:
    """timm's network of this name: images (B, 3, H, W) to features (B, `num_features`).

    `image_size`, `patch_size`: pixels; None keeps the network's own patches. `pretrained`: weights from timm's hub.
    Where timm's class can, it takes other input sizes too, by timm's antialiased resampling of position tables, which
    is not DINO's (`backbones.vit` has that). What `forward_intermediates` counts is timm's choice: blocks of a ViT, but
    stages of a PVTv2 or PiT, normed, and the stem first in a ResNet; `backbones.pvt_v2`, `pit` and `convit` count
    blocks, and see other sizes. Weights begin as timm has it (its ViTs' class token at 1e-6, not 0.02).
    ValueError for an unknown name, a size that the network cannot see, or an argument that its class does not have.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"timm has no network {name!r}." + (f" Did you mean {' or '.join(close)}?" if close else ""))
    arguments = _accepted(name, image_size, drop_path_rate, patch_size)
    num_features = _probe(name, image_size, arguments)
    try:
        made: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise ValueError(
            f"No pretrained weights for {name}: {error}. Set pretrained=false or allow the hub."
        ) from error
    made.num_features = num_features  # timm's own leaves out a layer between pooling and classifier (MobileNetV3)
    replace_drop_paths(made)
    return made


def _accepted(name: str, image_size: int, drop_path_rate: float, patch_size: int | None) -> dict[str, Any]:
    """Those arguments that the class behind a name takes; it is known only once built, which on meta costs little."""
    with torch.device("meta"):
        plain: Any = timm.create_model(name, num_classes=0)
    names = inspect.signature(type(plain).__init__).parameters
    arguments: dict[str, Any] = {}
    own_size = plain.pretrained_cfg["input_size"][-1]
    if "img_size" in names:
        arguments["img_size"] = image_size
    elif plain.pretrained_cfg.get("fixed_input_size") and image_size != own_size:
        raise ValueError(f"{name} sees images of {own_size} px only, not {image_size}: choose another network.")
    if "dynamic_img_size" in names:
        arguments["dynamic_img_size"] = True
    if patch_size is not None:
        if "patch_size" not in names:
            raise ValueError(f"{name} has no patch size to set: patch_size has to be null, not {patch_size}.")
        arguments["patch_size"] = patch_size
    if "drop_path_rate" in names:
        arguments["drop_path_rate"] = drop_path_rate
    elif drop_path_rate:
        raise ValueError(f"{name} has no drop path: drop_path_rate has to be 0, not {drop_path_rate}.")
    return arguments


def _probe(name: str, image_size: int, arguments: dict[str, Any]) -> int:
    """Width of the features, from a forward without numbers."""
    try:
        with torch.device("meta"), torch.no_grad():
            made: Any = timm.create_model(name, num_classes=0, **arguments).eval()
            features = made(torch.empty(2, 3, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"{name} cannot see images of {image_size} px with {arguments}: {str(error) or type(error).__name__} "
            f"Choose another image_size, patch_size or network."
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ValueError(f"{name} does not give one feature vector an image and cannot be a backbone.")
    return features.shape[1]
