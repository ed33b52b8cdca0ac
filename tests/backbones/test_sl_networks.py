import pytest
import torch
from torch import nn

from smalldata_vit.backbones.drop_path import DropPath, places
from smalldata_vit.backbones.sl_cait import TalkingLocality, sl_cait
from smalldata_vit.backbones.sl_swin import sl_swin
from smalldata_vit.backbones.sl_vit import sl_vit


def published(name, image_size, sl):
    patch = image_size // 8
    if name == "vit":
        return sl_vit(image_size, patch, 192, 9, 12, 2, 0.1, sl, sl)
    if name == "swin":
        return sl_swin(image_size, patch // 2, 96, [2, 6, 4], [3, 6, 12], [4, 4, 4], 2, 0.1, "padded", sl, sl)
    return sl_cait(image_size, patch, 192, 24, 4, 64, 2, 0.1, 2, sl, sl)


def small(name, patches=True, locality=True, rate=0.0):
    torch.manual_seed(0)
    if name == "vit":
        network = sl_vit(16, 4, 12, 3, 3, 2, rate, patches, locality)
    elif name == "swin":
        network = sl_swin(16, 2, 8, [2, 2], [1, 2], [4, 4], 2, rate, "padded", patches, locality)
    else:
        network = sl_cait(16, 4, 12, 3, 2, 8, 2, rate, 2, patches, locality)
    return network


def pictures(n=3, side=16):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "sl", "ten", "hundred", "two_hundred"),
    [
        ("vit", False, 2_692_426, 2_709_796, 2_756_744),
        ("vit", True, 2_729_878, 2_747_248, 2_906_228),
        ("swin", False, 7_073_188, 7_107_838, 7_149_794),
        ("swin", True, 8_562_166, 8_596_816, 8_652_956),
        ("cait", False, 9_020_618, 9_037_988, 9_084_936),
        ("cait", True, 9_058_066, 9_075_436, 9_234_416),
    ],
)
def test_each_network_has_the_published_number_of_weights(name, sl, ten, hundred, two_hundred):
    with torch.device("meta"):
        networks = published(name, 32, sl), published(name, 32, sl), published(name, 64, sl)
    found = [
        sum(p.numel() for p in network.parameters()) + (network.num_features + 1) * classes
        for network, classes in zip(networks, (10, 100, 200), strict=True)
    ]
    assert found == [ten, hundred, two_hundred]


@pytest.mark.parametrize("name", ["vit", "swin", "cait"])
@pytest.mark.parametrize(("patches", "locality"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_weight_receives_a_gradient(name, patches, locality):
    network = small(name, patches, locality)
    network(pictures()).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", ["vit", "swin", "cait"])
@pytest.mark.parametrize("sl", [False, True])
def test_half_size_crops_and_blocks_can_be_seen(name, sl):
    network = small(name, sl, sl).eval()
    features = network(pictures(side=8))
    assert features.shape == (3, network.num_features)
    maps = network.forward_intermediates(pictures(side=8), intermediates_only=True)
    assert maps[0].shape == ((3, 8, 4, 4) if name == "swin" else (3, 12, 2, 2))


@pytest.mark.parametrize("name", ["vit", "swin", "cait"])
def test_passes_that_are_slices_of_the_batch_drop_the_same_paths_as_the_whole(name):
    network, images = small(name, rate=0.5), pictures(6)
    parts = []
    for start, stop in [(0, 6), (0, 2), (2, 6)]:
        torch.manual_seed(3)
        with places(start, stop, 6):
            parts.append(network(images[start:stop]))
    torch.testing.assert_close(torch.cat(parts[1:]), parts[0], atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["vit", "swin", "cait"])
def test_they_run_in_bf16(name):
    network = small(name).eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = network(pictures()).float()
    torch.testing.assert_close(low, network(pictures()), atol=0.15, rtol=0.15)


@pytest.mark.parametrize(
    ("name", "rates"),
    [("vit", [0.1] * 18), ("swin", [0.1 * i / 11 for i in range(12) for _ in range(2)]), ("cait", [0.1] * 26)],
)
@pytest.mark.parametrize("sl", [False, True])
def test_paths_are_dropped_as_in_their_code(name, rates, sl):
    with torch.device("meta"):
        network = published(name, 32, sl)
    assert [m.drop_prob for m in network.modules() if isinstance(m, DropPath)] == pytest.approx(rates)


@pytest.mark.parametrize("name", ["vit", "swin", "cait"])
@pytest.mark.parametrize("sl", [False, True])
def test_every_norm_has_torchs_epsilon(name, sl):
    assert {m.eps for m in small(name, sl, sl).modules() if isinstance(m, nn.LayerNorm)} == {1e-5}


@pytest.mark.parametrize("name", ["vit", "cait"])
@pytest.mark.parametrize("sl", [False, True])
def test_weights_of_vit_and_cait_begin_xavier_normal_and_tables_unit_normal(name, sl):
    network = published(name, 32, sl)
    inputs = 240 if sl else 48
    patches = network.patch_embed.proj.weight
    assert patches.std().item() == pytest.approx((2 / (inputs + 192)) ** 0.5, rel=0.05)
    assert network.blocks[0].mlp.fc1.weight.std().item() == pytest.approx((2 / (192 + 384)) ** 0.5, rel=0.05)
    assert network.pos_embed.std().item() == pytest.approx(1, rel=0.05)
    assert network.pos_embed.abs().max() > 2.5  # normal, not cut at two standard deviations
    assert network.cls_token.std().item() == pytest.approx(1, rel=0.25)


def test_layers_of_swin_begin_as_torch_makes_them():
    network = published("swin", 32, True)
    layer = network.layers[1].blocks[0].mlp.fc1
    assert layer.weight.std().item() == pytest.approx((3 * 192) ** -0.5, rel=0.05)
    assert layer.bias.abs().max() > 0
    assert network.patch_embed.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)


def test_factors_on_the_branches_of_cait_begin_by_depth():
    network = published("cait", 32, True)
    assert [round(b.gamma_1[0].item(), 6) for b in network.blocks] == [0.1] * 18 + [1e-5] * 6
    assert [round(b.gamma_2[0].item(), 6) for b in network.blocks_token_only] == [0.1] * 2


def written_out(layer, tokens, context, own):
    heads = layer.heads
    each = layer.q.out_features // heads
    inner = heads * each
    query, key, value = layer.q(tokens), layer.kv(context)[:, :inner], layer.kv(context)[:, inner:]
    parts = [slice(h * each, (h + 1) * each) for h in range(heads)]
    raw = torch.stack([query[:, p] @ key[:, p].T * layer.head_scale[h] for h, p in enumerate(parts)])
    if own == "zeroed":
        raw.diagonal(dim1=1, dim2=2).fill_(-1e-9)
    mixed = torch.stack([sum(layer.mix_before[g, h] * raw[h] for h in range(heads)) for g in range(heads)])
    if own == "hidden":
        mixed.diagonal(dim1=1, dim2=2).fill_(float("-inf"))
    weights = mixed.softmax(dim=-1)
    again = [sum(layer.mix_after[g, h] * weights[h] for h in range(heads)) for g in range(heads)]
    return layer.proj(torch.cat([again[h] @ value[:, p] for h, p in enumerate(parts)], dim=1))


@pytest.mark.parametrize("own", ["seen", "zeroed", "hidden"])
def test_heads_of_cait_talk_and_see_their_own_token_by_the_rule(own):
    torch.manual_seed(0)
    layer, tokens = TalkingLocality(6, 2, 5, True, own), torch.randn(1, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(tokens)[0], written_out(layer, tokens[0], tokens[0], own))


def test_the_class_token_of_cait_attends_to_patch_tokens_as_they_are_and_not_to_itself():
    torch.manual_seed(0)
    block = small("cait").blocks_token_only[0]
    token, patches = torch.randn(1, 1, 12), torch.randn(1, 4, 12)
    with torch.no_grad():
        after = token + block.gamma_1 * written_out(block.attn, block.norm1(token)[0], patches[0], "seen")
        after = after + block.gamma_2 * block.mlp(block.norm2(after))
        torch.testing.assert_close(block(patches, token), after)


def test_tables_of_positions_are_named_for_weight_decay():
    assert small("swin").patch_embed.no_weight_decay() == {"pos_embed"}
    assert "pos_embed" in small("vit").no_weight_decay()


def test_shifted_merging_of_an_odd_grid_is_refused_when_the_network_is_built():
    with pytest.raises(ValueError, match=r"20 is not a multiple of 8"):
        sl_swin(20, 2, 8, [1, 1, 1], [1, 2, 4], [2, 2, 2], 2, 0.0, "padded", True, True)
