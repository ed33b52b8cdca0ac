"""Weights as they come from timm. Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import timm
import torch
from torch import Tensor

from smalldata_vit.foreign import Weights, offered
from smalldata_vit.handoff import HandOffError


def from_timm(name: str) -> Weights:
    """Pretrained weights of timm's network of this name (`deit_tiny_patch16_224`), for images of its own size.

    `sha256` is that of names and values. HandOffError: no such weights, or no way to them, with what to do instead.
    """
    if not timm.is_model_pretrained(name):
        known = f"pretrained weights of a network {name!r}" if not timm.is_model(name) else f"weights for {name}"
        raise HandOffError(f"timm {timm.__version__} has no {known}; timm.list_pretrained() lists all names.")
    try:
        network: Any = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise HandOffError(
            f"The weights of timm's {name} cannot be fetched: {type(error).__name__}: {error} Without a network, put "
            f"its state dict (model.safetensors of the hub, or torch.save(model.state_dict(), file)) anywhere and give "
            f"start_from.file=<that file> in the place of start_from.timm."
        ) from error
    state, facts = network.state_dict(), network.pretrained_cfg
    normalised = (tuple(facts["mean"]), tuple(facts["std"]))
    return replace(offered(state, "timm", digest(state)), normalised=normalised)


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names and values, in hexadecimal; the order of names does not matter."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].cpu()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
