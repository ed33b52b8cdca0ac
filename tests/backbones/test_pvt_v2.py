import math

import pytest
import timm
import torch
from torch import nn

from smalldata_vit.backbones.pvt_v2 import pvt_v2

B0 = {
    "widths": [32, 64, 160, 256],
    "depths": [2, 2, 2, 2],
    "heads": [1, 2, 5, 8],
    "mlp_ratios": [8, 8, 4, 4],
    "reductions": [8, 4, 2, 1],
    "drop_path_rate": 0.0,
}


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [64, 48])
def test_with_the_same_weights_it_is_timms_network(side):
    ours, theirs = pvt_v2(**B0).eval(), timm.create_model("pvt_v2_b0", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = drawn(2, 3, side, side)
    torch.testing.assert_close(ours(images), theirs(images), atol=2e-6, rtol=1e-4)


def test_the_last_block_of_each_stage_with_norm_is_timms_intermediate():
    ours, theirs = pvt_v2(**B0).eval(), timm.create_model("pvt_v2_b0", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = drawn(2, 3, 64, 64)
    found = ours.forward_intermediates(images, indices=[1, 3, 5, 7], norm=True, intermediates_only=True)
    for a, b in zip(found, theirs.forward_intermediates(images, intermediates_only=True), strict=True):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("inner", [1e-5, 1e-6])
def test_the_inner_epsilon_is_of_the_norms_behind_patches_and_reductions(inner):
    network = pvt_v2(**B0, inner_eps=inner)
    others = [s.norm for s in network.stages] + [b.norm1 for s in network.stages for b in s.blocks]
    inside = [network.patch_embed.norm, *(s.downsample.norm for s in network.stages if s.downsample is not None)]
    inside += [b.attn.norm for s in network.stages for b in s.blocks if b.attn.norm is not None]
    assert {m.eps for m in inside} == {inner}
    assert {m.eps for m in others} == {1e-6}
    assert len(inside) == 4 + 6


def test_convolutions_begin_normal_with_the_root_of_two_over_the_fan_out():
    network = pvt_v2(**B0)
    for name, fan_out in [("stages.3.downsample.proj", 9 * 256), ("stages.3.blocks.0.mlp.dwconv", 9)]:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
        assert layer.bias.abs().max() == 0


def test_it_sees_29_px_and_refuses_28():
    network = pvt_v2(**B0).eval()
    assert network(drawn(2, 3, 29, 29)).shape == (2, 256)
    with pytest.raises(ValueError, match=r"28 x 28 .* at least 29 px"):
        network(drawn(2, 3, 28, 28))
