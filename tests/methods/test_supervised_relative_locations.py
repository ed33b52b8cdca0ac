"""Fine-tuning with relative locations: the loss, the switch, and together with guidance."""

from collections.abc import Iterable
from functools import partial

import torch
from method_stand_ins import FACTS, START, batch, rows
from torch import Tensor

from smalldata_vit.backbones.cait import cait
from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.backbones.swin import swin
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import Loss
from smalldata_vit.methods.supervised import Supervised
from smalldata_vit.parts.guidance import Guidance
from smalldata_vit.parts.relative_locations import RelativeLocations, RiseAndFall
from smalldata_vit.schedules import Constant, Progress, Schedule

STUDENT = partial(vit, 8, 2, 12, 3, 3, 2, drop_path_rate=0.4)
STILL = partial(vit, 8, 2, 12, 3, 3, 2, drop_path_rate=0.0)
CNN = partial(resnet_cifar, 8, 4)
SWIN = partial(swin, 8, 2, 12, (1, 1), (2, 2), (2, 2), 2.0, 0.0, "padded")
CAIT = partial(cait, 8, 2, 12, 2, 3, 2.0, 0.0, 1, 2.0, 1e-5, "slice")


def located(weight: Schedule, student: partial = STUDENT, **others: object) -> Supervised:
    torch.manual_seed(0)
    told = partial(RelativeLocations, weight=weight, pairs=5, hidden=16)
    return Supervised(student, FACTS, relative_locations=told, **others)  # type: ignore[arg-type]


def plain() -> Supervised:
    torch.manual_seed(0)
    return Supervised(STUDENT, FACTS)


def train(method: Supervised, steps: Iterable[int]) -> list[Loss]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for step in steps:
        progress = Progress(step, 12, 2)
        torch.manual_seed(step)
        loss = method(batch(seed=step), progress)
        loss.total.backward()
        method.before_step(progress)
        torch.nn.utils.clip_grad_norm_(method.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
    return losses


def of_student(method: Supervised) -> dict[str, Tensor]:
    return {n: v for n, v in method.state_dict().items() if not n.startswith(("relative_locations.", "guidance."))}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


def test_the_term_is_lambda_times_the_mean_over_views_of_the_error_on_the_map_before_the_norm() -> None:
    method, given = located(Constant(0.5), STILL), batch(views=(2, 1))
    errors = []
    for number, group in enumerate(given.views):
        image = group.transpose(0, 1).flatten(0, 1)
        tokens = method.backbone._pos_embed(method.backbone.patch_embed(image))
        for block in method.backbone.blocks:
            tokens = block(tokens)
        side = image.shape[-1] // 2
        last = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        errors.append(method.relative_locations(last, given.index, given.seed, number))
    loss = method(given, START)
    torch.testing.assert_close(loss.terms["relative_locations"], 0.5 * (2 * errors[0] + errors[1]) / 3)
    torch.testing.assert_close(loss.terms["cross_entropy"], Supervised.forward(still_plain(method), given, START).total)


def still_plain(method: Supervised) -> Supervised:
    alone = Supervised(STILL, FACTS)
    alone.load_state_dict(of_student(method))
    return alone


def test_a_weight_of_zero_gives_bit_for_bit_the_weights_of_none() -> None:
    with_it, without = located(Constant(0.0)), plain()
    losses, others = train(with_it, range(6)), train(without, range(6))
    assert differing(of_student(with_it), without.state_dict()) == []
    assert [loss.total.item() for loss in losses] == [loss.total.item() for loss in others]


def test_at_weight_zero_the_network_stays_in_the_graph_and_neither_moves_nor_decays() -> None:
    method = located(Constant(0.0))
    before = {name: p.clone() for name, p in method.relative_locations.state_dict().items()}
    method(batch(), START).total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in method.relative_locations.parameters())
    method.zero_grad()
    train(method, range(3))
    assert differing(method.relative_locations.state_dict(), before) == []


def test_from_the_second_epoch_on_every_weight_of_student_and_network_moves() -> None:
    method = located(RiseAndFall(0.5, rise_epochs=1), STILL)
    before = {name: p.clone() for name, p in method.named_parameters()}
    losses = train(method, range(6))
    assert [loss.stats["relative_locations_weight"].item() > 0 for loss in losses] == [False, False] + [True] * 4
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


def test_each_image_has_its_own_loss_whatever_pass_it_is_in() -> None:
    method, whole = located(Constant(0.5), STILL), batch(images=4)
    assert method.couples_images is False
    parts = [method(rows(whole, slice(b, b + 1)), START).total for b in range(4)]
    torch.testing.assert_close(method(whole, START).total, torch.stack(parts).mean())


def test_guidance_and_relative_locations_share_one_forward_and_add_their_terms() -> None:
    guidance = partial(Guidance, guide=CNN, image_size=8, weight=Constant(2.5))
    both, given = located(Constant(0.5), STILL, guidance=guidance), batch(views=(2, 1))
    torch.manual_seed(0)
    guided = Supervised(STILL, FACTS, guidance=guidance)
    wanted, told, found = guided(given, START), located(Constant(0.5), STILL)(given, START), both(given, START)
    assert len(both.tapped) == 1
    torch.testing.assert_close(dict(found.terms), {**told.terms, "guidance": wanted.terms["guidance"]})
    assert found.stats.keys() == told.stats.keys() | wanted.stats.keys()


def test_swin_and_cait_give_their_last_map_before_the_norm_too() -> None:
    for student in (SWIN, CAIT):
        method = located(Constant(0.5), student)
        loss = method(batch(), START)
        loss.total.backward()
        assert method.relative_locations.layers[0].weight.grad.any()
        assert method.backbone.norm.weight.grad.any()
        assert loss.terms["relative_locations"].item() > 0


def test_bf16_gives_a_float32_loss_and_finite_gradients() -> None:
    method = located(Constant(0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(batch(), START)
    loss.total.backward()
    assert {term.dtype for term in loss.terms.values()} == {torch.float32}
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)
