"""The weights of attention layers, which their forward does not keep: recomputed from the tokens that a layer receives.

Each is tested to be the matrix whose product with the values is what the layer gives.
"""

from functools import singledispatch
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from torch import Tensor, nn

from smalldata_vit.backbones.cait import ClassAttention
from smalldata_vit.backbones.locality_attention import LocalityAttention, own_tokens
from smalldata_vit.backbones.sl_cait import TalkingLocality
from smalldata_vit.backbones.window_block import WindowAttention

Weights = Float[Tensor, "B heads Q N"]
"""Rows of softmax(Q Kᵀ / √d): how much each query takes of each token; they sum to 1."""


@singledispatch
def attention_weights(layer: nn.Module, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """The weights with which an attention layer mixes the tokens that it receives, or the context beside them.

    Where heads are mixed after the softmax (CaiT of Lee et al.), those before that mixing. ValueError for a kind of
    layer whose weights nobody has written out here.
    """
    refuse(layer)


def refuse(module: nn.Module) -> NoReturn:
    """ValueError for a kind of module without a map."""
    raise ValueError(
        f"{type(module).__name__} has no attention map: there are maps of ViT (also timm's), SL-ViT, CaiT, SL-CaiT, "
        f"Swin and SL-Swin"
    )


@attention_weights.register(Attention)
def of_self_attention(layer: Attention, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """(B, heads, N, N), as `backbones.vit.attend` has them in its explicit form."""
    query, key, _ = heads(layer.qkv(tokens), 3, layer.num_heads)
    query, key = layer.q_norm(query), layer.k_norm(key)
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(dim=-1)


@attention_weights.register(LocalityAttention)
def of_locality(layer: LocalityAttention, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """(B, heads, N, N); no token attends to itself."""
    query, key, _ = heads(layer.qkv(tokens), 3, layer.heads)
    similarity = (query * layer.head_scale[:, None, None]) @ key.transpose(-2, -1)
    return (similarity + own_tokens(tokens.shape[1], tokens.device)).softmax(dim=-1)


@attention_weights.register(ClassAttention)
def of_class_token(layer: ClassAttention, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """(B, heads, 1, N) of the first token to all."""
    (query,), (key,) = (heads(made, 1, layer.num_heads) for made in (layer.q(tokens[:, :1]), layer.k(tokens)))
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(dim=-1)


@attention_weights.register(TalkingLocality)
def of_class_token_to_context(layer: TalkingLocality, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """(B, heads, Q, N) of the tokens to the context, after the heads were mixed and the softmax was taken."""
    if context is None or layer.own != "seen":
        raise ValueError("of this attention only the class token's to a context of patches is written out")
    (query,), (key, _) = heads(layer.q(tokens), 1, layer.heads), heads(layer.kv(context), 2, layer.heads)
    scale: Any = layer.scale if layer.head_scale is None else layer.head_scale[:, None, None]
    similarity = (query * scale) @ key.transpose(-2, -1)
    return torch.einsum("ij,bjqn->biqn", layer.mix_before, similarity).softmax(dim=-1)


def of_windows(layer: WindowAttention, tokens: Tensor, window: tuple[int, int], mask: Tensor | None) -> Tensor:
    """(rows, heads, N, N) within windows of this size, image by image; `mask` (windows, N, N) is added."""
    query, key, _ = heads(layer.qkv(tokens), 3, layer.num_heads)
    scale: Any = layer.scale if layer.head_scale is None else layer.head_scale[:, None, None]
    similarity = (query * scale) @ key.transpose(-2, -1) + layer._bias(window)
    if layer.head_scale is not None:
        similarity = similarity + own_tokens(tokens.shape[1], tokens.device)
    if mask is not None:
        similarity = (similarity.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
    return similarity.softmax(dim=-1)


def heads(joint: Float[Tensor, "B N D"], parts: int, number: int) -> tuple[Float[Tensor, "B heads N d"], ...]:
    """The parts (queries, keys, values) of a joint projection, cut into heads."""
    return joint.unflatten(2, (parts, number, -1)).permute(2, 0, 3, 1, 4).unbind(0)
