import json
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smalldata_vit.backbones.cait import cait
from smalldata_vit.backbones.pit import pit
from smalldata_vit.backbones.sinusoid import sinusoid
from smalldata_vit.backbones.swin import swin
from smalldata_vit.backbones.t2t_vit import t2t_vit
from smalldata_vit.backbones.vit import vit
from smalldata_vit.handoff import HandOffError, load_encoder


def network(image_size=16, width=24, seed=0, **changes):
    torch.manual_seed(seed)
    return vit(image_size, 4, width, 2, 3, 2, 0.0, **changes)


def equal(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


def test_equal_networks_are_loaded_completely():
    source, target = network(seed=1), network(seed=2)
    report = load_encoder(target, source.state_dict())
    assert equal(source.state_dict(), target.state_dict())
    assert report.summary() == f"{len(source.state_dict())} loaded, 0 resized, 0 new, 0 left over"


@pytest.mark.parametrize(("rule", "how"), [("bicubic", {"size": (8, 8)}), ("scale_factor", {"scale_factor": 8.1 / 4})])
def test_a_table_of_another_grid_is_resized_by_the_named_rule_and_keeps_the_class_row(rule, how):
    source, target = network(16, seed=1), network(32, seed=2)
    report = load_encoder(target, source.state_dict(), positions=rule)
    old, new = source.pos_embed.detach(), target.pos_embed.detach()
    expected = F.interpolate(old[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2), mode="bicubic", **how)
    assert torch.equal(new[:, :1], old[:, :1])
    torch.testing.assert_close(new[:, 1:], expected.flatten(2).transpose(1, 2))
    assert report.resized == {"pos_embed": (4, 8)}
    assert f"1 resized (pos_embed: 4 x 4 to 8 x 8, {rule})" in report.summary()
    assert "pos_embed" not in report.loaded


def test_a_table_without_class_row_is_resized_too():
    target = network(32, pooling="mean")
    assert load_encoder(target, network(16, pooling="mean").state_dict()).resized == {"pos_embed": (4, 8)}


def test_idmms_deit_grows_from_50_to_197_to_785_rows_from_stage_to_stage():
    stages = [vit(size, 16, 24, 1, 3, 2, 0.0) for size in (112, 224, 448)]
    for before, after in pairwise(stages):
        report = load_encoder(after, before.state_dict())
        assert list(report.resized) == ["pos_embed"]
        assert torch.equal(after.pos_embed[:, :1], before.pos_embed[:, :1])
    assert [network.pos_embed.shape[1] for network in stages] == [50, 197, 785]


def test_pits_table_of_maps_is_resized():
    source, target = (pit(size, 8, 4, 8, [1, 1, 1], [1, 2, 4], 2, 0.0) for size in (32, 64))
    report = load_encoder(target, source.state_dict())
    expected = F.interpolate(source.pos_embed.detach(), size=(15, 15), mode="bicubic")
    assert report.resized == {"pos_embed": (7, 15)}
    torch.testing.assert_close(target.pos_embed.detach(), expected)


def t2t(size):
    return t2t_vit(size, 16, 1, 2, 2, 0.0, "performer", 1e-5, "truncated_normal", 0.0, token_width=8)


def test_t2ts_sinusoid_is_interpolated_or_recomputed_as_was_declared():
    source = t2t(32)
    interpolated, recomputed = t2t(64), t2t(64)
    report = load_encoder(interpolated, source.state_dict(), positions="bicubic")
    assert report.resized == load_encoder(recomputed, source.state_dict(), positions="recomputed").resized
    assert report.resized == {"pos_embed": (2, 4)}
    assert torch.equal(recomputed.pos_embed, sinusoid(17, 16))
    grid = source.pos_embed[:, 1:].reshape(1, 2, 2, 16).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(interpolated.pos_embed[:, 1:], expected)
    assert not interpolated.pos_embed.requires_grad
    assert torch.equal(recomputed.blocks[0].mlp.fc1.weight, source.blocks[0].mlp.fc1.weight)


def test_a_learned_table_is_not_recomputed():
    with pytest.raises(HandOffError, match="pos_embed was learned"):
        load_encoder(network(32), network(16).state_dict(), positions="recomputed")


def test_caits_table_has_no_row_of_the_class_token_and_is_resized_whole():
    source, target = (cait(size, 4, 12, 1, 2, 2, 0.0, 1, 2, 1e-5, "size") for size in (16, 32))
    load_encoder(target, source.state_dict())
    expected = F.interpolate(
        source.pos_embed.detach().reshape(1, 4, 4, 12).permute(0, 3, 1, 2), size=(8, 8), mode="bicubic"
    )
    torch.testing.assert_close(target.pos_embed.detach(), expected.flatten(2).transpose(1, 2))


def small_swin(size, windows):
    return swin(size, 2, 8, [2, 2], [2, 2], windows, 2, 0.0, "padded")


def test_swin_sees_another_size_with_the_same_tables():
    source, target = small_swin(16, [4, 4]), small_swin(32, [4, 4])
    report = load_encoder(target, source.state_dict())
    assert (len(report.loaded), report.resized) == (len(source.state_dict()), {})


def test_swins_tables_of_relative_positions_are_resized_for_another_window():
    source, target = small_swin(16, [2, 2]), small_swin(16, [4, 4])
    report = load_encoder(target, source.state_dict())
    name = "layers.1.blocks.1.attn.relative_position_bias_table"
    assert report.resized[name] == (3, 7)
    old = source.state_dict()[name].T.reshape(1, 2, 3, 3)
    expected = F.interpolate(old, size=(7, 7), mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(target.state_dict()[name], expected)
    with pytest.raises(HandOffError, match=r"has shape \(9, 2\), the network's has \(49, 2\)"):
        load_encoder(target, source.state_dict(), positions="none")


@pytest.mark.parametrize("positions", ["none", "bicubic"])
def test_a_misfit_names_both_shapes_and_loads_nothing(positions):
    source, target = network(16, width=48, seed=1), network(32, seed=2)
    before = {n: v.clone() for n, v in target.state_dict().items()}
    with pytest.raises(HandOffError, match=r"pos_embed has shape \(1, 17, 48\), the network's has \(1, 65, 24\)"):
        load_encoder(target, source.state_dict(), positions=positions)
    assert equal(before, target.state_dict())


def test_every_misfit_of_a_wider_network_is_counted():
    with pytest.raises(HandOffError, match=r"cls_token has shape \(1, 1, 48\).*\(1, 1, 24\).*and \d+ more"):
        load_encoder(network(), network(width=48).state_dict())


def test_undeclared_new_and_left_over_weights_are_refused_by_name():
    state = network().state_dict()
    state["head.weight"] = torch.zeros(10, 24)
    del state["norm.bias"]
    with pytest.raises(HandOffError, match=r"norm.bias is new; head.weight is left over"):
        load_encoder(network(), state)


def test_declared_new_and_left_over_weights_are_reported():
    target = network(seed=2)
    target.head = nn.Linear(24, 10)
    state = {f"{n}": v for n, v in network(seed=1).state_dict().items()} | {"mlphead.mlp.0.weight": torch.zeros(3)}
    report = load_encoder(target, state, new=["head.*"], left_over=["mlphead.*"])
    assert report.new == ["head.weight", "head.bias"]
    assert report.left_over == ["mlphead.mlp.0.weight"]
    assert json.loads(json.dumps(report.as_dict()))["left_over"] == ["mlphead.mlp.0.weight"]


def test_a_head_declared_new_stays_new_even_if_one_is_offered():
    target, source = network(), network(seed=1)
    target.head, source.head = nn.Linear(24, 10), nn.Linear(24, 10)
    start = target.head.weight.clone()
    report = load_encoder(target, source.state_dict(), new=["head.*"])
    assert torch.equal(target.head.weight, start)
    assert report.left_over == report.new == ["head.weight", "head.bias"]


def test_weights_of_a_diverged_training_are_refused():
    state = network(seed=1).state_dict()
    state["norm.bias"][3] = float("nan")
    with pytest.raises(HandOffError, match=r"norm\.bias holds values that are not finite"):
        load_encoder(network(), state)
