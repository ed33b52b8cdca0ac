import pytest
import torch
import torch.nn.functional as F

from smalldata_vit.backbones.pvt_v1 import ReducedAttention, pvt_v1


def small(**changes):
    arguments = {
        "image_size": 64,
        "widths": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "heads": [1, 2, 2, 4],
        "mlp_ratios": [2, 2, 2, 2],
        "reductions": [8, 4, 2, 1],
        "drop_path_rate": 0.0,
    }
    torch.manual_seed(0)
    return pvt_v1(**arguments | changes)


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("reduction", [1, 2])
def test_attention_is_the_softmax_written_out_over_the_shrunk_grid(reduction):
    torch.manual_seed(0)
    layer, tokens = ReducedAttention(8, 2, reduction, "auto"), drawn(1, 16, 8)
    source = tokens
    if reduction > 1:
        shrunk = F.conv2d(tokens.transpose(1, 2).reshape(1, 8, 4, 4), layer.sr.weight, layer.sr.bias, stride=2)
        source = layer.norm(shrunk.flatten(2).transpose(1, 2))
    q, (k, v) = layer.q(tokens)[0], layer.kv(source)[0].chunk(2, dim=-1)
    heads = [(q[:, h : h + 4] @ k[:, h : h + 4].T / 2).softmax(dim=-1) @ v[:, h : h + 4] for h in (0, 4)]
    expected = layer.proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(tokens, (4, 4))[0], expected, atol=1e-6, rtol=1e-5)


def test_each_stage_has_positions_and_the_last_one_a_class_token_with_a_row_of_its_own():
    tables = {n: tuple(p.shape) for n, p in small().named_parameters() if n.endswith(("pos_embed", "cls_token"))}
    assert tables == {
        "stages.0.pos_embed": (1, 256, 8),
        "stages.1.pos_embed": (1, 64, 8),
        "stages.2.pos_embed": (1, 16, 16),
        "stages.3.cls_token": (1, 1, 16),
        "stages.3.pos_embed": (1, 5, 16),
    }


@pytest.mark.parametrize("positions", ["size", "scale_factor"])
def test_another_size_is_seen_through_the_resampled_tables(positions):
    network, grown = small(positions=positions).eval(), small(image_size=96).eval()
    state = network.state_dict()
    for stage, (old, new) in enumerate([(16, 24), (8, 12), (4, 6), (2, 3)]):
        table = state[f"stages.{stage}.pos_embed"]
        extra = table.shape[1] - old * old
        grid = table[:, extra:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
        how = {"size": (new, new)} if positions == "size" else {"scale_factor": (new + 0.1) / old}
        grid = F.interpolate(grid, mode="bicubic", **how).flatten(2).transpose(1, 2)
        state[f"stages.{stage}.pos_embed"] = torch.cat([table[:, :extra], grid], dim=1)
    grown.load_state_dict(state)
    images = drawn(2, 3, 96, 96)
    torch.testing.assert_close(network(images), grown(images), atol=5e-6, rtol=1e-4)


def test_features_are_the_class_token_after_the_norm():
    network = small().eval()
    final, maps = network.forward_intermediates(drawn(2, 3, 64, 64), output_fmt="NLC")
    torch.testing.assert_close(network.norm(maps[-1]), final[:, 1:], atol=1e-6, rtol=1e-5)
    assert torch.equal(network(drawn(2, 3, 64, 64)), final[:, 0])


def test_tables_class_token_and_linear_weights_begin_at_002():
    network = small(widths=[64, 64, 64, 64])
    for name in ("stages.0.pos_embed", "stages.0.blocks.0.mlp.fc1.weight"):
        assert network.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.03)
    assert network.get_parameter("stages.3.cls_token").std().item() == pytest.approx(0.02, rel=0.3)
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_images_that_the_reductions_do_not_fit_are_refused_with_the_smallest_that_do():
    with pytest.raises(ValueError, match=r"16 x 16 pixels .* reductions \[8, 4, 2, 1\]: sides of at least 32 px"):
        small()(drawn(1, 3, 16, 16))
    with pytest.raises(ValueError, match="24 x 24"):
        small(image_size=24)
