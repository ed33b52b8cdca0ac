"""Supervised training with guidance: its loss, what it moves, and that switching it off leaves no trace."""

import copy
import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from method_stand_ins import FACTS, START, TinyBackbone, batch
from torch import Tensor, nn

from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import Loss
from smalldata_vit.methods.supervised import Supervised
from smalldata_vit.optimization import Optimization
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.parts.guidance_controller import LossDerivative
from smalldata_vit.parts.guidance_schedules import Decay
from smalldata_vit.schedules import Constant, Progress, Schedule

STUDENT = partial(vit, 8, 2, 12, 3, 3, 2, drop_path_rate=0.4)
CNN = partial(resnet_cifar, 8, 4)


def guided(weight: Schedule | None = None, dropped: float = 0.4, **changed: Any) -> Supervised:
    torch.manual_seed(0)
    weight = weight if weight is not None else Constant(2.5)
    guidance = partial(Guidance, guide=CNN, image_size=8, weight=weight, **changed)
    return Supervised(partial(STUDENT, drop_path_rate=dropped), FACTS, guidance=guidance)


def unguided() -> Supervised:
    torch.manual_seed(0)
    return Supervised(STUDENT, FACTS)


class Flat(Schedule):
    """A learning rate that stays."""

    def __init__(self, peak: float) -> None:
        self.peak = peak

    def __call__(self, progress: Progress) -> float:
        return self.peak


def optimization() -> Optimization:
    adam = partial(torch.optim.AdamW, betas=(0.9, 0.999), eps=1e-8)
    return Optimization(adam, 1e-2, Flat, Constant(0.1), "weights", clip_norm=0.5)


def train(method: Supervised, steps: Iterable[int], optimizer: Any = None) -> tuple[Any, list[Loss]]:
    """What the learner does in the steps of a stage of twelve, two an epoch."""
    rule = optimization()
    optimizer, losses = optimizer or rule.build(method, 4), []
    for step in steps:
        progress = Progress(step, 12, 2)
        rule.set(optimizer, progress, 4)
        torch.manual_seed(step)
        loss = method(batch(seed=step), progress)
        loss.total.backward()
        method.before_step(progress)
        rule.clip(method.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(progress, {name: seen.value for name, seen in loss.seen.items()})
        losses.append(loss)
    return optimizer, losses


def of_student(method: Supervised) -> dict[str, Tensor]:
    return {name: value for name, value in method.state_dict().items() if not name.startswith("guidance.")}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


def test_the_loss_is_the_cross_entropy_and_beta_times_the_sum_over_pairs_of_the_mean_squares() -> None:
    method, given = guided(Constant(3.0), dropped=0.0), batch(views=(2, 1))
    means = []
    for group in given.views:
        image = group.transpose(0, 1).flatten(0, 1)
        _, own = method.backbone.forward_intermediates(image, indices=[0, 1, 2])
        seen = F.interpolate(image, size=(8, 8), mode="bilinear") if image.shape[-1] != 8 else image
        wanted = method.guidance.guide.network.forward_intermediates(seen, intermediates_only=True)
        pairs = []
        for mine, theirs, projection in zip(own, wanted, method.guidance.projections, strict=True):
            side = max(mine.shape[-1], theirs.shape[-1])
            a, b = (F.interpolate(m, size=(side, side), mode="bilinear") for m in (projection(mine), theirs))
            pairs.append(((b - a) ** 2).mean())
        means.append(sum(pairs))
    loss = method(given, START)
    expected = 3.0 * (2 * means[0] + means[1]) / 3
    torch.testing.assert_close(loss.terms["guidance"], expected)
    plain = Supervised(partial(STUDENT, drop_path_rate=0.0), FACTS)
    plain.load_state_dict(of_student(method))
    torch.testing.assert_close(loss.terms["cross_entropy"], plain(given, START).total)
    torch.testing.assert_close(loss.total, loss.terms["cross_entropy"] + loss.terms["guidance"])
    torch.testing.assert_close(loss.stats["guidance_share"], loss.terms["guidance"] / loss.total)
    assert loss.stats["guidance_weight"].item() == 3.0


def test_a_student_starts_the_same_with_guidance_and_without() -> None:
    assert differing(of_student(guided()), unguided().state_dict()) == []


def test_guidance_of_weight_zero_gives_bit_for_bit_the_weights_of_no_guidance() -> None:
    with_it, without = guided(Constant(0.0)), unguided()
    (one, losses), (other, plain) = train(with_it, range(8)), train(without, range(8))
    assert differing(of_student(with_it), without.state_dict()) == []
    assert [loss.total.item() for loss in losses] == [loss.total.item() for loss in plain]
    moments = [[s["exp_avg"] for s in optimizer.state.values()] for optimizer in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def test_behind_the_switch_the_guide_is_not_run_and_projections_neither_move_nor_decay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, runs = guided(Decay(2.5, until_fraction=0.5)), []
    forward = method.guidance.guide.forward
    monkeypatch.setattr(method.guidance.guide, "forward", lambda image: (runs.append(1), forward(image))[1])
    optimizer, _ = train(method, range(6))
    before = {name: p.clone() for name, p in method.guidance.projections.named_parameters()}
    assert len(runs) == 6
    _, losses = train(method, range(6, 12), optimizer)
    assert len(runs) == 6
    assert differing(dict(method.guidance.projections.named_parameters()), before) == []
    assert {loss.terms["guidance"].item() for loss in losses} == {0.0}


def test_behind_the_switch_the_projections_stay_in_the_graph_but_out_of_clipping() -> None:
    method = guided(Constant(0.0))
    method(batch(), START).total.backward()
    projections = list(method.guidance.projections.parameters())
    assert all(p.grad is not None and not p.grad.any() for p in projections)
    method.before_step(START)
    assert all(p.grad is None for p in projections)


def test_gradient_flows_into_student_and_projections_only() -> None:
    method = guided()
    method(batch(), START).terms["guidance"].backward()
    assert all(p.grad is None for p in method.guidance.guide.parameters())
    assert all(p.grad is not None and p.grad.any() for p in method.guidance.projections.parameters())
    blocks = [p.grad for name, p in method.backbone.named_parameters() if name.startswith("blocks.")]
    assert all(gradient is not None for gradient in blocks)
    assert method.head.weight.grad is None


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_a_resumed_guided_training_equals_the_uninterrupted_one(bn_mode: str) -> None:
    def fresh() -> Supervised:
        return guided(bn_mode=bn_mode, controller=LossDerivative(window=2, threshold=-1e-3))

    whole = fresh()
    optimizer, _ = train(whole, range(3))
    again = fresh()
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    theirs = optimization().build(again, 4)
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(whole, range(3, 12), optimizer)
    train(again, range(3, 12), theirs)
    assert differing(again.state_dict(), whole.state_dict()) == []


def test_a_controller_is_fed_the_loss_without_its_weight_and_switches_guidance_off_for_good() -> None:
    method = guided(controller=LossDerivative(window=2, threshold=-1e9))
    _, losses = train(method, range(6))
    assert [loss.stats["guidance_weight"].item() for loss in losses] == [2.5] * 4 + [0.0] * 2
    torch.testing.assert_close(losses[0].seen["guidance"].value * 2.5, losses[0].terms["guidance"].detach())
    assert all("guidance" not in loss.seen for loss in losses[4:])
    assert "guidance_slope" in losses[0].stats


@pytest.mark.parametrize(
    ("changed", "couples"),
    [
        ({}, False),
        ({"bn_mode": "train"}, True),
        ({"standardize": True}, True),
        ({"transform": "similarity"}, True),
        ({"transform": "attention"}, False),
    ],
)
def test_guidance_couples_images_where_it_looks_at_a_whole_pass(changed: dict[str, Any], couples: bool) -> None:
    assert guided(**changed).couples_images is couples


@pytest.mark.parametrize("transform", ["attention", "similarity"])
def test_the_other_transforms_have_no_projections_and_still_train_the_student(transform: str) -> None:
    method = guided(transform=transform)
    assert len(method.guidance.projections) == 0
    method(batch(), START).terms["guidance"].backward()
    assert method.backbone.blocks[0].mlp.fc1.weight.grad.any()
    assert "guidance" not in guided(Constant(0.0), transform=transform)(batch(), START).terms


def test_the_state_holds_every_weight_once_and_guide_and_projections_beside_the_student() -> None:
    names = list(guided().state_dict())
    assert not [name for name in names if "tapped" in name]
    assert {name.split(".")[1] for name in names if name.startswith("guidance.")} == {"projections", "guide"}


def test_what_is_compiled_is_what_training_calls() -> None:
    method = guided()
    assert method.compiled() == [method.backbone, *method.tapped, method.guidance.guide]
    assert unguided().compiled()[0].num_features == 12


def test_bf16_gives_a_float32_loss_and_finite_gradients() -> None:
    method = guided()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch(), START)
    loss.total.backward()
    assert {term.dtype for term in loss.terms.values()} == {torch.float32}
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)


def test_a_backbone_without_maps_is_refused() -> None:
    guidance = partial(Guidance, guide=CNN, image_size=8, weight=Constant(2.5))
    with pytest.raises(ValueError, match="TinyBackbone cannot take part in guidance"):
        Supervised(TinyBackbone, FACTS, guidance=guidance)


def test_a_guided_student_with_a_head_of_zeros_starts_at_the_logarithm_of_the_number_of_classes() -> None:
    method = guided()
    nn.init.zeros_(method.head.weight)
    assert method(batch(), START).terms["cross_entropy"].item() == pytest.approx(math.log(5), abs=1e-6)
