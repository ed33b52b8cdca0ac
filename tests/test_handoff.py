import argparse
import hashlib
import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from smalldata_vit.backbones.vit import vit
from smalldata_vit.handoff import HandOffError, load_encoder, read_weights


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
    assert "1 resized (pos_embed: 4 x 4 to 8 x 8)" in report.summary()
    assert "pos_embed" not in report.loaded


def test_a_table_without_class_row_is_resized_too():
    target = network(32, pooling="mean")
    assert load_encoder(target, network(16, pooling="mean").state_dict()).resized == {"pos_embed": (4, 8)}


def test_idmms_tables_grow_from_50_to_197_to_785_rows():
    state = {"cls_token": torch.zeros(1, 1, 4), "pos_embed": torch.randn(1, 50, 4)}
    for rows in (197, 785):
        target = nn.Module()
        target.cls_token, target.pos_embed = nn.Parameter(torch.ones(1, 1, 4)), nn.Parameter(torch.zeros(1, rows, 4))
        load_encoder(target, state)
        state = target.state_dict()
    assert state["pos_embed"].shape == (1, 785, 4)


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


def test_a_checkpoint_of_ours_a_bare_state_and_safetensors_give_the_same_weights(tmp_path):
    state = network().state_dict()
    files = [tmp_path / n for n in ("step.ckpt", "bare.pth", "x.safetensors")]
    torch.save({"encoder": state, "step": 3}, files[0])
    torch.save(state, files[1])
    safetensors.torch.save_file(state, files[2])
    for file in files:
        found, sha256 = read_weights(file)
        assert found.keys() == state.keys()
        assert equal(state, found)
        assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_checkpoint_of_the_recipes_authors_is_read_by_its_source(tmp_path):
    state = network().state_dict()
    prefixed = {f"module.backbone.{n}": v for n, v in state.items()} | {"module.mlphead.mlp.0.bias": torch.zeros(3)}
    torch.save({"student": prefixed, "args": argparse.Namespace(lr=1.0)}, tmp_path / "checkpoint.pth")
    found, _ = read_weights(tmp_path / "checkpoint.pth", source="student")
    report = load_encoder(network(seed=1), found, left_over=["mlphead.*"])
    assert len(report.loaded) == len(state)
    assert report.left_over == ["mlphead.mlp.0.bias"]


def test_a_source_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    torch.save({"student": {"w": torch.zeros(1)}, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(HandOffError, match=r"a\.pth has no weights called 'teacher'; it holds: student, epoch"):
        read_weights(tmp_path / "a.pth", source="teacher")
    with pytest.raises(HandOffError, match=r"'epoch' is no mapping"):
        read_weights(tmp_path / "a.pth", source="epoch")


@pytest.mark.parametrize("name", ["bad.ckpt", "bad.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"no weights at all", "truncated", "flipped"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name, damage):
    file = tmp_path / name
    if isinstance(damage, str):
        state = {"w": torch.arange(1000.0)}
        safetensors.torch.save_file(state, file) if "safe" in name else torch.save(state, file)
        content = bytearray(file.read_bytes())
        content[2] ^= 255
        damage = bytes(content) if damage == "flipped" else bytes(content[: len(content) // 2])
    file.write_bytes(damage)
    with pytest.raises(HandOffError, match=name.replace(".", r"\.")):
        read_weights(file)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"encoder": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(HandOffError, match=r"trap\.ckpt cannot be read"):
        read_weights(tmp_path / "trap.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HandOffError, match=r"gone\.ckpt is not a file"):
        read_weights(tmp_path / "gone.ckpt")


def test_weights_of_a_diverged_training_are_refused():
    state = network(seed=1).state_dict()
    state["norm.bias"][3] = float("nan")
    with pytest.raises(HandOffError, match=r"norm\.bias holds values that are not finite"):
        load_encoder(network(), state)


def test_a_bare_state_is_an_encoder_and_nothing_else(tmp_path):
    torch.save(network().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(HandOffError, match=r"no weights called 'teacher'; it holds: cls_token"):
        read_weights(tmp_path / "bare.pth", source="teacher")
