"""Files in the layouts of the published code, made here: what is read gives the outputs of the network behind it."""

import argparse
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from smalldata_vit import foreign_timm
from smalldata_vit.backbones.cait import cait
from smalldata_vit.backbones.pvt_v2 import pvt_v2
from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.swin import swin
from smalldata_vit.backbones.vit import vit
from smalldata_vit.foreign import FORMATS, Weights, read
from smalldata_vit.foreign_timm import from_timm
from smalldata_vit.handoff import HandOffError, load_encoder

State = dict[str, Tensor]


def small_vit() -> nn.Module:
    return vit(16, 4, 24, 2, 3, 2, 0.0)


def small_cait() -> nn.Module:
    return cait(16, 4, 12, 2, 2, 2, 0.0, 1, 2, 1e-5, "size")


def small_swin() -> nn.Module:
    return swin(16, 2, 8, [2, 2, 1], [2, 2, 2], [2, 2, 2], 2, 0.0, "padded")


def small_pvt() -> nn.Module:
    return pvt_v2([4, 8, 8, 8], [1, 1, 1, 1], [1, 2, 2, 2], [2, 2, 2, 2], [8, 4, 2, 1], 0.0)


def small_resnet() -> nn.Module:
    return resnet_cifar(14, width=4)


def other_names(state: Mapping[str, Tensor], *pairs: tuple[str, str]) -> State:
    """The state with parts of names replaced, in order."""
    renamed = dict(state)
    for ours, theirs in pairs:
        renamed = {name.replace(ours, theirs): value for name, value in renamed.items()}
    return renamed


def vit_of_li(state: State) -> State:
    pairs = (("patch_embed.proj", "patch_embed.projection"), ("blocks.", "layers."))
    return other_names(state, *pairs, ("attn.qkv", "attn.qkv_transform"), ("attn.proj", "attn.projection"))


def resnet_of_li(state: State) -> State:
    pairs = [(f"stages.{s}.{b}.", f"s{s + 1}.b{b + 1}.") for s in range(3) for b in range(2)]
    inner = [("shortcut.0.", "proj."), ("shortcut.1.", "bn."), (".conv1.", ".f.a."), (".bn1.", ".f.a_bn.")]
    theirs = other_names(state, *pairs, *inner, (".conv2.", ".f.b."), (".bn2.", ".f.b_bn."))
    stem = {"conv1.weight": "stem.conv.weight"} | {f"bn1.{k}": f"stem.bn.{k}" for k in nn.BatchNorm2d(1).state_dict()}
    return {stem.get(name, name): value for name, value in theirs.items()}


def swin_of_microsoft(state: State) -> State:
    theirs = other_names(
        state, ("layers.1.downsample", "layers.0.downsample"), ("layers.2.downsample", "layers.1.downsample")
    )
    tables = {name: value for name, value in theirs.items() if name.endswith("bias_table")}
    index = torch.zeros(4, 4, dtype=torch.int64)
    return theirs | {name.replace("bias_table", "index"): index for name in tables}


def cait_of_gani(state: State) -> State:
    theirs = other_names(state, ("patch_embed.proj", "patch_embed.1"))
    weight = theirs["patch_embed.1.weight"]
    return theirs | {"patch_embed.1.weight": weight.permute(0, 2, 3, 1).reshape(len(weight), -1)}


def pvt_of_wang(state: State) -> State:
    theirs = other_names(state, ("dwconv.", "dwconv.dwconv."), ("patch_embed.", "patch_embed1."))
    for stage in range(4):
        pairs = (
            (f"stages.{stage}.downsample", f"patch_embed{stage + 1}"),
            (f"stages.{stage}.blocks", f"block{stage + 1}"),
        )
        theirs = other_names(theirs, *pairs, (f"stages.{stage}.norm", f"norm{stage + 1}"))
    return theirs


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in state.items()}


def projector(prefix: str) -> State:
    return {f"{prefix}.mlp.0.weight": torch.zeros(4, 24), f"{prefix}.last_layer.weight_g": torch.zeros(4, 1)}


def class_head(prefix: str, features: int = 24) -> State:
    return {f"{prefix}.weight": torch.randn(5, features), f"{prefix}.bias": torch.randn(5)}


def varied(network: nn.Module) -> nn.Module:
    """The network in evaluation with every weight and statistic drawn, so that no two are alike."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand_like(value) + 0.5 if name.endswith("running_var") else 0.3 * torch.randn_like(value)
                )
    return network.eval()


STAGE_1 = {
    "optimizer": {},
    "epoch": 3,
    "args": argparse.Namespace(lr=0.1),
    "view_pred_loss": {"center": torch.zeros(4)},
}


def gani_stage_1(state: State) -> dict[str, Any]:
    own = prefixed("backbone.", state) | projector("mlphead")
    other = {name: torch.zeros_like(value) for name, value in own.items()}
    return {"student": prefixed("module.", other), "teacher": own, **STAGE_1}


def gani_student(state: State) -> dict[str, Any]:
    found = gani_stage_1(state)
    return found | {"student": prefixed("module.", found["teacher"]), "teacher": found["student"]}


def dino_full(state: State) -> dict[str, Any]:
    return {"student": {}, "teacher": prefixed("backbone.", state) | projector("head"), "args": argparse.Namespace()}


LAYOUTS = {
    "ours": (small_vit, lambda s: {"encoder": s, "position": {"step": 1}}, "encoder", "ours"),
    "Gani stage 1, teacher": (small_vit, gani_stage_1, "teacher", "gani"),
    "Gani stage 1, student": (small_vit, gani_student, "student", "gani"),
    "Gani stage 1, Swin": (small_swin, lambda s: gani_stage_1(swin_of_microsoft(s)), "teacher", "gani"),
    "Gani stage 1, CaiT": (small_cait, lambda s: gani_stage_1(cait_of_gani(s)), "teacher", "gani"),
    "Gani stage 2": (small_vit, lambda s: {"model_state_dict": s | class_head("head"), "epoch": 3}, "encoder", "gani"),
    "Gani stage 2, bare": (small_swin, lambda s: swin_of_microsoft(s) | class_head("head", 32), "encoder", "timm"),
    "DINO, backbone": (small_vit, lambda s: s, "encoder", "timm"),
    "DINO, full": (small_vit, dino_full, "teacher", "dino"),
    "IDMM": (small_vit, lambda s: prefixed("module.", s | class_head("head")), "encoder", "idmm"),
    "IDMM, momentum": (small_vit, lambda s: prefixed("module.encoder_q.", s), "encoder", "idmm"),
    "IDMM, PVTv2": (
        small_pvt,
        lambda s: prefixed("module.", pvt_of_wang(s) | class_head("head", 8)),
        "encoder",
        "idmm",
    ),
    "Li, DeiT": (
        small_vit,
        lambda s: {"model_state": vit_of_li(s) | class_head("head"), "cfg": "A: 1"},
        "encoder",
        "lg",
    ),
    "Li, DeiT, mean": (small_vit, lambda s: {"model_state": {}, "ema_state": vit_of_li(s)}, "ema", "lg"),
    "Li, ResNet": (
        small_resnet,
        lambda s: {"model_state": resnet_of_li(s) | class_head("head.fc", 16)},
        "encoder",
        "lg",
    ),
    "timm": (small_vit, lambda s: s | class_head("head"), "encoder", "timm"),
    "timm's training": (small_vit, lambda s: {"state_dict": s, "epoch": 3, "arch": "vit"}, "encoder", "timm"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_gives_the_outputs_of_the_network_behind_it(tmp_path: Path, layout: str) -> None:
    build, written, source, format = LAYOUTS[layout]
    torch.manual_seed(0)
    behind, ours = varied(build()), build().eval()
    torch.save(written(dict(behind.state_dict())), tmp_path / "file.pth")
    found = read(tmp_path / "file.pth", source)
    assert found.format == format
    report = load_encoder(ours, found.encoder)
    assert report.new == report.left_over == []
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(image), behind(image))


def test_the_patches_of_ganis_cait_are_cut_as_rows_columns_channels(tmp_path: Path) -> None:
    theirs, image = torch.randn(12, 48), torch.randn(1, 3, 16, 16)
    state = cait_of_gani(dict(small_cait().state_dict())) | {"patch_embed.1.weight": theirs}
    torch.save(state, tmp_path / "cait.pth")
    patches = image.reshape(1, 3, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(16, 48)
    convolution = read(tmp_path / "cait.pth").encoder["patch_embed.proj.weight"]
    maps = nn.functional.conv2d(image, convolution, stride=4)
    torch.testing.assert_close(maps.flatten(2)[0].T, patches @ theirs.T)


@pytest.mark.parametrize("place", ["head", "fc", "classifier", "head.fc"])
def test_a_class_head_is_kept_apart_from_the_encoder(tmp_path: Path, place: str) -> None:
    head = class_head(place)
    torch.save(dict(small_vit().state_dict()) | head, tmp_path / "file.pth")
    found = read(tmp_path / "file.pth")
    assert torch.equal(found.head["weight"], head[f"{place}.weight"])
    assert torch.equal(found.head["bias"], head[f"{place}.bias"])
    assert found.encoder.keys() == small_vit().state_dict().keys()


def test_the_head_of_a_checkpoint_of_ours_is_its_entry(tmp_path: Path) -> None:
    head = nn.Linear(24, 5).state_dict()
    torch.save({"encoder": dict(small_vit().state_dict()), "head": dict(head)}, tmp_path / "step.ckpt")
    assert torch.equal(read(tmp_path / "step.ckpt").head["weight"], head["weight"])


def test_the_self_supervised_head_of_a_known_format_is_left_over_and_named(tmp_path: Path) -> None:
    torch.save(gani_stage_1(dict(small_vit().state_dict())), tmp_path / "file.pth")
    assert read(tmp_path / "file.pth", "teacher").left_over == ["mlphead.mlp.0.weight", "mlphead.last_layer.weight_g"]


def test_an_unknown_head_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    state = dict(small_vit().state_dict()) | {"predictor.0.weight": torch.zeros(3)}
    torch.save(prefixed("module.", state), tmp_path / "file.pth")
    found = read(tmp_path / "file.pth")
    with pytest.raises(HandOffError, match=r"predictor\.0\.weight is left over.*start_from\.left_over=\[…\]"):
        load_encoder(small_vit(), found.encoder)
    assert load_encoder(small_vit(), found.encoder, left_over=["predictor.*"]).left_over == ["predictor.0.weight"]


def test_a_file_of_another_network_is_refused_and_leaves_no_random_weights_behind(tmp_path: Path) -> None:
    torch.save(gani_stage_1(swin_of_microsoft(dict(small_swin().state_dict()))), tmp_path / "swin.pth")
    with pytest.raises(HandOffError, match=r"is new"):
        load_encoder(small_vit(), read(tmp_path / "swin.pth", "teacher").encoder)


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({"backbone.w": torch.zeros(1), "w": torch.ones(1)}, tmp_path / "file.pth")
    with pytest.raises(HandOffError, match="Two weights are called w"):
        read(tmp_path / "file.pth")


@pytest.mark.parametrize("format", ["gani", "lg"])
def test_a_format_that_was_named_is_not_guessed_otherwise(tmp_path: Path, format: str) -> None:
    torch.save({"encoder": dict(small_vit().state_dict())}, tmp_path / "file.ckpt")
    with pytest.raises(HandOffError, match=r"has no weights called 'encoder'; it holds: encoder"):
        read(tmp_path / "file.ckpt", "encoder", format)


def test_a_source_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {"w": torch.zeros(1)}, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(
        HandOffError, match=r"a\.pth has no weights called 'teacher'; it holds: model_state_dict, epoch"
    ):
        read(tmp_path / "a.pth", "teacher")
    torch.save({"encoder": 3}, tmp_path / "b.pth")
    with pytest.raises(HandOffError, match=r"'encoder' is no mapping"):
        read(tmp_path / "b.pth")


def test_a_bare_state_and_safetensors_give_the_same_weights_and_their_digest(tmp_path: Path) -> None:
    state = dict(small_vit().state_dict())
    torch.save(state, tmp_path / "bare.pth")
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    for file in (tmp_path / "bare.pth", tmp_path / "x.safetensors"):
        found = read(file)
        assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert all(torch.equal(found.encoder[name], value) for name, value in state.items())
        with pytest.raises(HandOffError, match="no weights called 'teacher'"):
            read(file, "teacher")


@pytest.mark.parametrize("name", ["bad.ckpt", "bad.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"no weights at all", "truncated", "flipped"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: bytes | str) -> None:
    file = tmp_path / name
    if isinstance(damage, str):
        state = {"w": torch.arange(1000.0)}
        safetensors.torch.save_file(state, file) if "safe" in name else torch.save(state, file)
        content = bytearray(file.read_bytes())
        content[2] ^= 255
        damage = bytes(content) if damage == "flipped" else bytes(content[: len(content) // 2])
    file.write_bytes(damage)
    with pytest.raises(HandOffError, match=name.replace(".", r"\.")):
        read(file)


class Trap:
    """A pickle that makes a folder when it is read as a pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("format", ["auto", "gani"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, format: str) -> None:
    file = tmp_path / "trap.pth"
    torch.save({"teacher": dict(small_vit().state_dict()), "args": Trap(tmp_path / "ran")}, file)
    with pytest.raises(HandOffError, match=r"trap\.pth cannot be read"):
        read(file, "teacher", format)
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HandOffError, match=r"gone\.ckpt is not a file"):
        read(tmp_path / "gone.ckpt")


def test_every_format_can_be_asked_for() -> None:
    from smalldata_vit.schema import ALLOWED_VALUES

    assert set(ALLOWED_VALUES["start_from.format"]) == {"auto", "ours", *FORMATS}


def test_weights_of_timm_are_those_of_its_network_with_its_head_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = foreign_timm.timm.create_model("vit_tiny_patch16_224", depth=1)
    monkeypatch.setattr(foreign_timm.timm, "create_model", lambda name, pretrained: made)
    found = from_timm("vit_tiny_patch16_224")
    ours = vit(112, 16, 192, 1, 3, 4, 0.0)
    assert load_encoder(ours, found.encoder).resized == {"pos_embed": (14, 7)}
    assert torch.equal(found.head["weight"], made.head.weight)
    assert torch.equal(ours.blocks[0].attn.qkv.weight, made.blocks[0].attn.qkv.weight)
    assert found.normalised == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert isinstance(found, Weights)


def test_without_a_network_it_is_said_where_to_put_timms_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, pretrained: bool) -> None:
        raise FileNotFoundError("cannot find the requested files in the local cache")

    monkeypatch.setattr(foreign_timm.timm, "create_model", offline)
    with pytest.raises(HandOffError, match=r"local cache.*start_from\.file=<that file>"):
        from_timm("vit_tiny_patch16_224")


def test_a_name_without_weights_is_refused() -> None:
    with pytest.raises(HandOffError, match="no pretrained weights of a network 'vit_teeny'"):
        from_timm("vit_teeny")
