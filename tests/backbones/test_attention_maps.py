"""Attention maps against the forward of each network: rows that sum to 1, and whose mixture is the layer's output."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smalldata_vit.backbones.attention_maps import attention_maps, of_window_block, rollout
from smalldata_vit.backbones.attention_weights import attention_weights, of_windows
from smalldata_vit.backbones.cait import cait
from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.sl_cait import sl_cait
from smalldata_vit.backbones.sl_swin import sl_swin
from smalldata_vit.backbones.sl_vit import sl_vit
from smalldata_vit.backbones.swin import swin
from smalldata_vit.backbones.timm_networks import network as of_timm
from smalldata_vit.backbones.vit import vit

VIT = partial(vit, 16, 4, 24, 3, 3, 2, 0.0, attention="explicit")
SL_VIT = partial(sl_vit, 16, 4, 24, 3, 3, 2, 0.0, True, True)
CAIT = partial(cait, 16, 4, 24, 2, 3, 2.0, 0.0, 2, 2.0, 1.0, "size", attention="explicit")
SL_CAIT = partial(sl_cait, 16, 4, 24, 2, 3, 8, 2.0, 0.0, 2, True, True)
SWIN = partial(swin, 32, 2, 12, (2, 2), (2, 2), (4, 4), 2.0, 0.0, "padded")
SL_SWIN = partial(sl_swin, 32, 2, 12, (2, 2), (2, 2), (4, 4), 2.0, 0.0, "padded", True, True)


def made(factory: Any) -> Any:
    """A network whose weights are large enough to look somewhere."""
    torch.manual_seed(0)
    network = factory().eval()
    for parameter in network.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return network


def images(side: int = 16) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def values(layer: Any, tokens: Tensor, heads: int) -> Tensor:
    """Those of a joint projection, (B, heads, N, d)."""
    return layer.qkv(tokens).unflatten(2, (3, heads, -1))[:, :, 2].transpose(1, 2)


def mixture(weights: Tensor, value: Tensor) -> Tensor:
    return (weights @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("form", ["explicit", "sdpa"])
def test_weights_of_a_vit_sum_to_one_and_mix_what_its_attention_gives(form: str) -> None:
    block = made(partial(VIT, attention=form)).blocks[1]
    tokens = torch.randn(2, 17, 24)
    weights = attention_weights(block.attn, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 17))
    mixed = block.attn.proj(mixture(weights, values(block.attn, tokens, 3)))
    torch.testing.assert_close(mixed, block._attention(tokens, 17))


def test_weights_of_locality_attention_leave_each_token_out_of_its_own_mixture() -> None:
    layer, tokens = made(SL_VIT).blocks[1].attn, torch.randn(2, 17, 24)
    weights = attention_weights(layer, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 17))
    assert not weights.diagonal(dim1=2, dim2=3).any()
    torch.testing.assert_close(layer.proj(mixture(weights, values(layer, tokens, 3))), layer(tokens, 17))


def test_weights_of_caits_class_token_mix_what_its_attention_gives() -> None:
    layer, tokens = made(CAIT).blocks_token_only[1].attn, torch.randn(2, 17, 24)
    weights = attention_weights(layer, tokens)
    assert weights.shape == (2, 3, 1, 17)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 1))
    value = layer.v(tokens).unflatten(2, (3, 8)).transpose(1, 2)
    torch.testing.assert_close(layer.proj(mixture(weights, value)), layer(tokens))


def test_weights_of_sl_caits_class_token_mix_what_its_attention_gives_once_heads_are_mixed() -> None:
    layer, token, context = made(SL_CAIT).blocks_token_only[1].attn, torch.randn(2, 1, 24), torch.randn(2, 16, 24)
    weights = attention_weights(layer, token, context)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 1))
    value = layer.kv(context).unflatten(2, (2, 3, 8))[:, :, 1].transpose(1, 2)
    talked = torch.einsum("ij,bjqn->biqn", layer.mix_after, weights)
    torch.testing.assert_close(layer.proj(mixture(talked, value)), layer(token, context))


@pytest.mark.parametrize("factory", [SWIN, SL_SWIN])
@pytest.mark.parametrize("masked", [True, False])
def test_weights_within_windows_mix_what_their_attention_gives(factory: Any, masked: bool) -> None:
    layer, tokens = made(factory).layers[0].blocks[1].attn, torch.randn(8, 16, 12)
    mask = torch.zeros(4, 16, 16).masked_fill(torch.rand(4, 16, 16) < 0.3, -100.0) if masked else None
    weights = of_windows(layer, tokens, (4, 4), mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(8, 2, 16))
    torch.testing.assert_close(
        layer.proj(mixture(weights, values(layer, tokens, 2))), layer(tokens, (4, 4), mask), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("factory", [VIT, SL_VIT])
def test_a_vits_map_is_the_class_tokens_row_of_the_last_block_over_the_patches(factory: Any) -> None:
    network = made(factory)
    tokens = network._pos_embed(network.patch_embed(images()))
    for block in network.blocks[:2]:
        tokens = block(tokens)
    weights = attention_weights(network.blocks[2].attn, network.blocks[2].norm1(tokens))
    torch.testing.assert_close(attention_maps(network, images()), weights[:, :, 0, 1:].reshape(2, 3, 4, 4))


def test_a_vit_without_class_token_gives_the_mean_over_queries() -> None:
    found = attention_maps(made(partial(VIT, pooling="mean")), images(24))
    assert found.shape == (2, 3, 6, 6)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(2, 3))


def test_timms_vits_give_maps_too() -> None:
    torch.manual_seed(0)
    network = of_timm("deit_tiny_patch16_224", 32, 0.0).eval()
    assert attention_maps(network, images(32)).shape == (2, 3, 2, 2)


def test_a_caits_map_is_the_last_class_blocks_without_the_class_tokens_own() -> None:
    network = made(CAIT)
    tokens = network.forward_intermediates(images(), output_fmt="NLC", intermediates_only=True)[-1]
    token = network.blocks_token_only[0](tokens, network.cls_token.expand(2, -1, -1))
    last = network.blocks_token_only[1]
    weights = attention_weights(last.attn, last.norm1(torch.cat([token, tokens], 1)))
    torch.testing.assert_close(attention_maps(network, images()), weights[:, :, 0, 1:].reshape(2, 3, 4, 4))


def test_an_sl_caits_map_sums_to_one_over_the_patches() -> None:
    found = attention_maps(made(SL_CAIT), images())
    assert found.shape == (2, 3, 4, 4)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize("factory", [SWIN, SL_SWIN])
@pytest.mark.parametrize("side", [32, 64])
def test_a_swins_map_is_the_mean_over_queries_and_sums_to_one_over_all_windows(factory: Any, side: int) -> None:
    found = attention_maps(made(factory), images(side))
    assert found.shape == (2, 2, side // 4, side // 4)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(2, 2))


def test_a_swins_map_lies_where_the_tokens_are_whatever_windows_were_shifted() -> None:
    network = made(SWIN)
    block, tokens = network.layers[1].blocks[1], torch.zeros(1, 8, 8, 24)
    tokens[0, 5, 2] = torch.randn(24, generator=torch.Generator().manual_seed(2))
    joint, number = block.attn.qkv.weight, 24
    joint.data[:number] = 0  # no query asks for anything but what the bias says
    block.attn.qkv.bias.data[:number] = 8 * (joint.data[number : 2 * number] @ tokens[0, 5, 2])
    found = of_window_block(block, tokens)
    assert block.shift_size == (2, 2)
    assert found.mean(1).flatten().argmax().item() == 5 * 8 + 2


def test_padding_takes_its_share_of_a_swins_map() -> None:
    found = attention_maps(made(SWIN), images(40))
    assert found.shape == (2, 2, 10, 10)
    assert bool((found.sum((2, 3)) < 1).all())
    fitted = attention_maps(made(partial(swin, 40, 2, 12, (2, 2), (2, 2), (4, 4), 2.0, 0.0, "fitted")), images(40))
    assert bool((fitted.sum((2, 3)) <= 1).all())


def test_rollout_is_the_product_of_half_attention_and_half_identity() -> None:
    network, whole = made(VIT), torch.eye(17)
    tokens = network._pos_embed(network.patch_embed(images()))
    for block in network.blocks:
        taken = attention_weights(block.attn, block.norm1(tokens)).mean(1)
        whole = (0.5 * taken + 0.5 * torch.eye(17)) @ whole
        tokens = block(tokens)
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, 17))
    torch.testing.assert_close(rollout(network, images()), whole[:, 0, 1:].reshape(2, 1, 4, 4))


def test_a_network_without_maps_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="ResNetCIFAR has no attention map"):
        attention_maps(resnet_cifar(8), images())


def test_only_a_vit_has_a_rollout() -> None:
    assert rollout(made(SWIN), images(32)) is None
    assert rollout(made(CAIT), images()) is None
