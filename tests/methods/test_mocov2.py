from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_stand_ins import FACTS, START, TinyBackbone, batch, rows
from torch import Tensor

from smalldata_vit.contracts import Batch
from smalldata_vit.methods.mocov2 import MoCoV2, queue_contrast
from smalldata_vit.schedules import Constant
from smalldata_vit.tally import Combined


def written_out(query: Tensor, key: Tensor, negatives: Tensor, temperature: float, left_out: Tensor) -> Tensor:
    """Eq. (1) for every query and the mean; lengths do not matter."""

    def score(one: Tensor, other: Tensor) -> Tensor:
        return torch.exp(one @ other / (one.norm() * other.norm()) / temperature)

    losses = []
    for i in range(len(query)):
        own = score(query[i], key[i])
        others = [score(query[i], negatives[n]) for n in range(len(negatives)) if not left_out[i, n]]
        losses.append(-torch.log(own / (own + sum(others))))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.2])
@pytest.mark.parametrize("without", ["none", "some"])
def test_the_loss_and_its_gradient_are_the_paper_s_sum(without: str, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, negatives = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (4, 4, 9))
    query.requires_grad_()
    left_out = torch.rand(4, 9, generator=generator) < (0.5 if without == "some" else 0)
    loss = queue_contrast(query, key, negatives, temperature, left_out if without == "some" else None).loss
    expected = written_out(query, key, negatives, temperature, left_out)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(one, query)[0] for one in (loss, expected)), atol=1e-10, rtol=1e-7)


def moco(**changed: Any) -> MoCoV2:
    torch.manual_seed(0)
    given = {"momentum": Constant(0.9), "temperature": 0.2, "queue": 16, "hidden": 16, "projection": 8}
    return MoCoV2(TinyBackbone, FACTS, **(given | changed))


def seen_of(method: MoCoV2, passes: list[Batch]) -> Mapping[str, Tensor]:
    """What the learner hands to `after_step` for these passes of one process."""
    combined, images = Combined([sum(len(p.index) for p in passes)]), sum(len(p.index) for p in passes)
    for one in passes:
        combined.add(method(one, START).seen, len(one.index) / images, len(one.index))
    return combined.everything()


def test_the_queue_changes_in_after_step_alone_and_takes_the_keys_of_the_second_views() -> None:
    method, given = moco(), replace(batch(images=4), index=torch.tensor([30, 2, 17, 9]))
    before = method.queue.keys.clone()
    seen = seen_of(method, [given])
    assert torch.equal(method.queue.keys, before)
    expected = method.teacher.network(given.views[0][:, 1:]).projections[0]
    method.after_step(START, seen)
    torch.testing.assert_close(method.queue.keys[:4], expected / expected.norm(dim=1, keepdim=True))
    assert torch.equal(method.queue.keys[4:], before[4:])
    assert method.queue.image.tolist() == [30, 2, 17, 9] + [-1] * 12


def test_however_the_step_is_cut_into_passes_the_queue_is_in_the_order_of_the_global_batch() -> None:
    whole, cut, given = moco(), moco(), batch(images=5)
    whole.after_step(START, seen_of(whole, [given]))
    cut.after_step(START, seen_of(cut, [rows(given, slice(0, 2)), rows(given, slice(2, 5))]))
    torch.testing.assert_close(cut.queue.keys, whole.queue.keys)
    assert torch.equal(cut.queue.image, whole.queue.image)


def test_without_batch_norm_an_image_s_loss_does_not_depend_on_the_others_of_its_pass() -> None:
    method, given = moco(), batch(images=4)
    parts = [method(rows(given, slice(b, b + 1)), START).total for b in range(4)]
    torch.testing.assert_close(method(given, START).total, torch.stack(parts).mean())


@pytest.mark.parametrize(("own_keys", "same"), [("leave_out", True), ("keep", False)])
def test_earlier_keys_of_the_query_s_image_are_left_out_or_kept(own_keys: str, same: bool) -> None:
    method, given = moco(own_keys=own_keys), batch(images=1)
    before = method(given, START).total
    method.queue.image[0] = given.index[0]
    held = method.queue.keys[0].clone()
    method.queue.keys[0] = method.teacher.network(given.views[0]).projections[1, 0]
    with_own = method(given, START).total
    method.queue.keys[0] = held
    assert torch.equal(with_own, method(given, START).total) == same
    assert not torch.equal(with_own, before)


def test_the_key_encoder_has_no_gradient_and_follows_by_its_momentum() -> None:
    method, given = moco(), batch(images=4)
    key, query = method.teacher.network.backbone.mix.weight, method.student.backbone.mix.weight
    start = key.clone()
    method(given, START).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    with torch.no_grad():
        query.add_(1.0)
    method.after_step(START, seen_of(method, [given]))
    torch.testing.assert_close(key.detach(), 0.9 * start + 0.1 * query.detach())


def test_the_query_encoder_is_handed_on_unless_the_teacher_is_asked_for() -> None:
    method = moco()
    assert method.encoder is method.student.backbone
    assert method.sources()["teacher"] is method.teacher.network.backbone
