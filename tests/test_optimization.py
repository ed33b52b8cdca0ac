import pytest
import torch
from torch import nn

from smalldata_vit.optimization import Optimization, parameter_groups
from smalldata_vit.schedules import Constant, Cosine, Progress, WarmupCosine


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 3, 4))
        self.linear = nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed"}


def decayed(rule: str) -> set[str]:
    groups = parameter_groups(nn.ModuleDict({"net": Net()}), rule, {})  # type: ignore[arg-type]
    return {name.removeprefix("net.") for group in groups if group["decays"] for name in group["names"]}


def make(clip_norm: float | None = None, clip: str = "global", lr_per_images: int | None = None) -> Optimization:
    return Optimization(
        optimizer=torch.optim.AdamW,
        lr=1e-4,
        schedule=lambda peak: WarmupCosine(peak),
        weight_decay=Cosine(0.04, 0.4),
        decays="matrices",
        clip_norm=clip_norm,
        clip=clip,  # type: ignore[arg-type]
        lr_per_images=lr_per_images,
    )


def test_each_rule_of_decay_takes_in_what_it_names() -> None:
    assert decayed("all") == {"pos_embed", "linear.weight", "linear.bias", "norm.weight", "norm.bias"}
    assert decayed("matrices") == {"pos_embed", "linear.weight"}
    assert decayed("weights") == {"linear.weight"}


def test_frozen_parameters_are_in_no_group() -> None:
    groups = parameter_groups(Net(), "all", {})
    assert all("frozen" not in group["names"] for group in groups)  # type: ignore[operator]


def test_a_learning_rate_per_images_grows_with_the_batch() -> None:
    assert make(lr_per_images=256).peak(512) == pytest.approx(2e-4)
    assert make().peak(512) == 1e-4


def test_setting_a_step_reaches_every_group_with_its_scale_and_only_decaying_ones_decay() -> None:
    optimization, net = make(), Net()
    groups = parameter_groups(net, "matrices", {id(net.linear.weight): 0.5})
    optimizer = torch.optim.AdamW(groups, lr=1.0)  # type: ignore[arg-type]
    optimization.set(optimizer, Progress(0, 100, 10), 64)
    found = {name: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for name in g["names"]}
    assert found["linear.weight"] == (pytest.approx(0.5e-4), pytest.approx(0.04))
    assert found["pos_embed"] == (pytest.approx(1e-4), pytest.approx(0.04))
    assert found["norm.weight"] == (pytest.approx(1e-4), 0.0)


def gradients() -> list[nn.Parameter]:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(5, 3)), nn.Parameter(torch.zeros(7)), nn.Parameter(torch.zeros(2))]
    for scale, parameter in zip((10.0, 0.01), parameters, strict=False):
        parameter.grad = scale * torch.randn_like(parameter)
    return parameters


def test_global_clipping_is_torch_s_own() -> None:
    ours, theirs = gradients(), gradients()
    norm = make(clip_norm=3.0).clip(ours)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 3.0)
    assert norm == pytest.approx(expected.item())
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_clipping_each_tensor_follows_the_loop_of_dino() -> None:
    ours, theirs = gradients(), gradients()
    make(clip_norm=3.0, clip="each").clip(ours)
    for parameter in theirs[:2]:
        factor = 3.0 / (parameter.grad.norm(2) + 1e-6)  # type: ignore[union-attr]
        if factor < 1:
            parameter.grad.mul_(factor)  # type: ignore[union-attr]
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_clipping_scaled_gradients_equals_scaling_clipped_ones() -> None:
    scaled, plain = gradients(), gradients()
    for parameter in scaled[:2]:
        parameter.grad.mul_(1024.0)  # type: ignore[union-attr]
    make(clip_norm=3.0).clip(scaled, scale=1024.0)
    make(clip_norm=3.0).clip(plain)
    for a, b in zip(scaled[:2], plain[:2], strict=True):
        torch.testing.assert_close(a.grad / 1024.0, b.grad)  # type: ignore[operator]


def test_a_loss_that_reaches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        make(clip_norm=1.0).clip([nn.Parameter(torch.zeros(2))])


def test_layer_decay_slows_lower_layers_and_leaves_the_head() -> None:
    import timm

    from smalldata_vit.optimization import layer_scales

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = timm.create_model(
                "vit_tiny_patch16_224", img_size=32, depth=3, embed_dim=12, num_heads=3, num_classes=0
            )
            self.head = nn.Linear(12, 2)

    holder = Holder()
    scales = layer_scales(holder.encoder, 0.5)
    by_name = {name: scales.get(id(p), 1.0) for name, p in holder.named_parameters()}
    assert by_name["head.weight"] == 1.0
    assert by_name["encoder.norm.weight"] == 0.5
    assert by_name["encoder.blocks.2.mlp.fc1.weight"] == 0.5
    assert by_name["encoder.blocks.0.mlp.fc1.weight"] == 0.125
    assert by_name["encoder.pos_embed"] == 0.0625


def test_a_weight_decay_may_stay_constant() -> None:
    assert Constant(0.05)(Progress(3, 10, 2)) == 0.05
