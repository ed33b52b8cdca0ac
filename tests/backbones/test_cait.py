from functools import partial

import pytest
import torch
from timm.models.cait import Cait
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smalldata_vit.backbones.cait import ClassAttention, TalkingHeads, cait
from smalldata_vit.backbones.drop_path import DropPath, places

SOFTMAX_IGNORES = ("proj_l.bias", "attn.k.bias")
"""Each adds the same number to all similarities of a token, so that its gradient is 0."""


def gani(image_size, patch_size, class_mlp_ratio=4, **changes):
    return cait(image_size, patch_size, 192, 24, 4, 2, 0.1, 2, class_mlp_ratio, 1e-5, "slice", **changes)


def small(positions="slice", rate=0.0, **changes):
    torch.manual_seed(0)
    network = cait(16, 4, 12, 3, 2, 2, rate, 2, 4, 0.1, positions, **changes)
    for p in network.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return network


def pictures(n=3, side=16, seed=1):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def timms(image_size=16):
    return Cait(
        img_size=image_size, patch_size=4, num_classes=0, embed_dim=12, depth=3, num_heads=2, mlp_ratio=2,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    ("image_size", "patch_size", "classes", "class_mlp_ratio", "printed"),
    [
        (32, 4, 10, 4, 8_053_450),
        (32, 4, 100, 4, 8_070_820),
        (64, 8, 200, 4, 8_117_768),
        (32, 4, 10, 2, 7_757_770),
    ],
)
def test_the_gani_cait_has_the_published_number_of_weights(image_size, patch_size, classes, class_mlp_ratio, printed):
    with torch.device("meta"):
        weights = sum(p.numel() for p in gani(image_size, patch_size, class_mlp_ratio).parameters())
    assert weights + 193 * classes == printed


@pytest.mark.parametrize(
    ("image_size", "patch_size", "side", "printed"),
    [(32, 4, 32, 504.8e6), (64, 8, 64, 506.6e6), (32, 4, 16, 119.2e6)],
)
def test_the_gani_cait_has_the_published_number_of_multiplications(image_size, patch_size, side, printed):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        gani(image_size, patch_size, attention="explicit")(torch.empty(1, 3, side, side))
    assert counter.get_total_flops() / 2 == pytest.approx(printed, abs=0.0005 * printed)


@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
def test_with_the_same_weights_it_is_timms_network_at_the_native_size(attention):
    ours, theirs = small(attention=attention).eval(), timms()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(pictures()), theirs(pictures()), atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(
        ours.forward_features(pictures()), theirs.forward_features(pictures()), atol=5e-6, rtol=1e-5
    )


def test_by_the_slice_rule_a_half_size_crop_sees_the_first_rows_of_the_table():
    ours, theirs = small("slice").eval(), timms(8)
    state = ours.state_dict()
    theirs.load_state_dict(state | {"pos_embed": state["pos_embed"][:, :4]})
    torch.testing.assert_close(ours(pictures(side=8)), theirs(pictures(side=8)), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("positions", "how"), [("scale_factor", {"scale_factor": 2.1 / 4}), ("size", {"size": (2, 2)})]
)
def test_by_the_other_rules_it_sees_the_resampled_table(positions, how):
    ours, theirs = small(positions).eval(), timms(8)
    state = ours.state_dict()
    grid = state["pos_embed"].reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    table = nn.functional.interpolate(grid, mode="bicubic", **how).flatten(2).transpose(1, 2)
    theirs.load_state_dict(state | {"pos_embed": table})
    torch.testing.assert_close(ours(pictures(side=8)), theirs(pictures(side=8)), atol=5e-6, rtol=1e-5)


def test_by_the_slice_rule_a_larger_image_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"6 x 6 needs 36 positions, the table of 4 x 4 has 16"):
        small("slice")(pictures(side=24))


def test_heads_talk_before_and_after_the_softmax():
    torch.manual_seed(0)
    layer, tokens = TalkingHeads(6, 2), torch.randn(1, 3, 6)
    query, key, value = layer.qkv(tokens)[0].reshape(3, 3, 2, 3).unbind(1)  # (token, head, d) each
    expected = torch.zeros(3, 6)
    for i in range(3):
        raw = torch.stack([(key[:, h] @ query[i, h]) / 3**0.5 for h in range(2)])
        mixed = torch.stack([layer.proj_l.weight[h] @ raw + layer.proj_l.bias[h] for h in range(2)]).softmax(dim=1)
        again = torch.stack([layer.proj_w.weight[h] @ mixed + layer.proj_w.bias[h] for h in range(2)])
        expected[i] = layer.proj(torch.cat([again[h] @ value[:, h] for h in range(2)]))
    torch.testing.assert_close(layer(tokens)[0], expected)


def test_drop_path_is_constant_in_the_blocks_and_absent_in_the_class_tokens():
    network = gani(32, 4)
    assert [b.drop_path.drop_prob for b in network.blocks] == [0.1] * 24
    assert not any(isinstance(m, DropPath) for m in network.blocks_token_only.modules())


def test_weights_begin_as_the_paper_draws_them():
    network = gani(32, 4)
    projection = network.patch_embed.proj
    assert projection.weight.std().item() == pytest.approx(0.02, rel=0.03)  # a linear layer in the authors' code
    assert projection.bias.abs().max() == 0
    assert network.blocks[3].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.cls_token.std().item() == pytest.approx(0.02, rel=0.25)
    gammas = [p for n, p in network.named_parameters() if "gamma" in n]
    assert len(gammas) == 52
    assert all((g == 1e-5).all() for g in gammas)


def test_every_norm_has_the_same_epsilon():
    assert {m.eps for m in gani(32, 4).modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_every_weight_receives_a_gradient():
    network = small()
    network(pictures()).square().mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [n for n in still if not n.endswith(SOFTMAX_IGNORES)] == []


def test_passes_that_are_slices_of_the_batch_drop_the_same_paths_as_the_whole():
    network, images = small(rate=0.5), pictures(6)
    parts = []
    for start, stop in [(0, 6), (0, 2), (2, 6)]:
        torch.manual_seed(3)
        with places(start, stop, 6):
            parts.append(network(images[start:stop]))
    torch.testing.assert_close(torch.cat(parts[1:]), parts[0], atol=5e-6, rtol=1e-5)


def test_activations_made_again_give_the_same_gradients_with_drop_path_on():
    results = []
    for recompute in (False, True):
        network = small(rate=0.5)
        network.set_grad_checkpointing(recompute)
        torch.manual_seed(3)
        with places(0, 4, 4):
            network(pictures(4)).square().mean().backward()
        results.append([p.grad for p in network.parameters()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_features_of_blocks_can_be_asked_for_at_any_size():
    network, images = small("size").eval(), pictures(side=8)
    last, blocks = network.forward_intermediates(images)
    assert [b.shape for b in blocks] == [(3, 12, 2, 2)] * 3
    torch.testing.assert_close(last[:, 0], network(images))
    (tokens,) = network.forward_intermediates(images, indices=[1], output_fmt="NLC", norm=True, intermediates_only=True)
    torch.testing.assert_close(tokens, network.norm(blocks[1].flatten(2).transpose(1, 2)))


def test_intermediates_are_timms_at_the_native_size():
    ours, theirs = small().eval(), timms()
    theirs.load_state_dict(ours.state_dict())
    mine = ours.forward_intermediates(pictures(), indices=2, stop_early=True, intermediates_only=True)
    reference = theirs.forward_intermediates(pictures(), indices=2, stop_early=True, intermediates_only=True)
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-5)


def test_class_attention_is_explicit_only_in_bf16_on_a_cpu(monkeypatch):
    calls = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda q, k, v: calls.append(q.shape) or fused(q, k, v)
    )
    network = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(pictures())).all()
    assert calls == []
    network(pictures())
    assert calls == [(3, 2, 1, 6)] * 2


def test_only_the_class_token_asks_in_the_class_tokens_blocks():
    layer = ClassAttention(12, 2)
    assert layer(torch.randn(3, 5, 12)).shape == (3, 1, 12)


def test_position_table_and_class_token_are_named_for_weight_decay():
    assert small().no_weight_decay() == {"pos_embed", "cls_token"}


def test_images_that_patches_do_not_tile_are_refused():
    with pytest.raises(ValueError, match=r"2 x 2 pixels .* patches of 4.*: 4\."):
        small()(pictures(side=2))
    with pytest.raises(ValueError, match="28 or 32"):
        gani(30, 4)


def test_a_width_that_heads_do_not_share_is_refused():
    with pytest.raises(ValueError, match="12 cannot be shared by 5 heads"):
        cait(16, 4, 12, 3, 5, 2, 0.0, 2, 4, 0.1, "slice")
