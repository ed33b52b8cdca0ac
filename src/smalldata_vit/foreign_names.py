"""How the published code of our recipes names the weights of its networks, and our names (timm's) for the same.

A state dict is in one of these dialects when a name that marks it is there; then every name is translated.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Rewriting = tuple[str, str | Callable[[re.Match[str]], str]]
"""A regular expression and what takes the place of its match."""


DERIVED = re.compile(r".*\.(relative_position_index|attn_mask)$")
"""Tables of indices that follow from Swin's windows and are no weights; they are not taken over."""


@dataclass(frozen=True)
class Dialect:
    """The names of one implementation of one network."""

    name: str
    mark: str
    """Regular expression of a name that no other dialect has."""
    rewritings: tuple[Rewriting, ...]
    flat_patches: bool = False
    """Whether patches are cut as (rows, columns, channels) and go through a matrix, not through a convolution."""


DIALECTS = (
    Dialect(
        "Microsoft's Swin",  # Gani et al.: each merging of patches ends a stage, timm's begins the next
        r"layers\.0\.downsample\.",
        ((r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample."),),
    ),
    Dialect(
        "Facebook's CaiT with rearranged patches",  # Gani et al.
        r"patch_embed\.1\.weight$",
        ((r"^patch_embed\.1\.", "patch_embed.proj."),),
        flat_patches=True,
    ),
    Dialect(
        "the DeiT of Li et al.",  # ECCV 2022, arXiv:2207.10026
        r"layers\.\d+\.attn\.qkv_transform\.",
        (
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^layers\.(\d+)\.", r"blocks.\1."),
            (r"\.attn\.qkv_transform\.", ".attn.qkv."),
            (r"\.attn\.projection\.", ".attn.proj."),
        ),
    ),
    Dialect(
        "the ResNet of Li et al.",
        r"s1\.b1\.f\.a\.weight$",
        (
            (r"^stem\.conv\.", "conv1."),
            (r"^stem\.bn\.", "bn1."),
            (r"^s(\d+)\.b(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.{int(m[2]) - 1}."),
            (r"\.f\.a\.", ".conv1."),
            (r"\.f\.a_bn\.", ".bn1."),
            (r"\.f\.b\.", ".conv2."),
            (r"\.f\.b_bn\.", ".bn2."),
            (r"\.proj\.", ".shortcut.0."),
            (r"(^stages\.\d+\.\d+)\.bn\.", r"\1.shortcut.1."),
        ),
    ),
    Dialect(
        "the PVTv2 of Wang et al.",  # as Cao, Yu and Wu have it, ECCV 2022, arXiv:2201.10728
        r"patch_embed1\.proj\.weight$",
        (
            (r"^patch_embed1\.", "patch_embed."),
            (r"^patch_embed(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.downsample."),
            (r"^block(\d)\.(\d+)", lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}"),
            (r"^norm(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.norm."),
            (r"\.dwconv\.dwconv\.", ".dwconv."),
        ),
    ),
)


def translated(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None, list[str]]:
    """Weights by our names; the dialect that they were in, None for ours; and the names that were not taken over."""
    derived = [name for name in state if DERIVED.match(name)]
    weights = {name: value for name, value in state.items() if name not in derived}
    spoken = next((d for d in DIALECTS if any(re.match(d.mark, name) for name in weights)), None)
    if spoken is None:
        return weights, None, derived
    ours = {_rewritten(name, spoken): value for name, value in weights.items()}
    if spoken.flat_patches:
        ours["patch_embed.proj.weight"] = _as_convolution(ours["patch_embed.proj.weight"])
    return ours, spoken.name, derived


def _rewritten(name: str, dialect: Dialect) -> str:
    for pattern, replacement in dialect.rewritings:
        name = re.sub(pattern, replacement, name)
    return name


def _as_convolution(weight: Tensor) -> Tensor:
    """(D, P·P·3), for patches cut as (rows, columns, channels), as a convolution's (D, 3, P, P)."""
    side = math.isqrt(weight.shape[1] // 3)
    return weight.reshape(len(weight), side, side, 3).permute(0, 3, 1, 2).contiguous()
