from dataclasses import replace
from typing import Any

import pytest
import torch
from method_stand_ins import FACTS, LATER, START, TinyBackbone, batch

from smalldata_vit.contracts import Batch
from smalldata_vit.methods.idmm import IDMM
from smalldata_vit.parts.mixing import Mixing
from smalldata_vit.schedules import Progress


def idmm(**changed: Any) -> IDMM:
    torch.manual_seed(0)
    return IDMM(TinyBackbone, FACTS, **{"mixing": None, **changed})


def six_crops() -> Batch:
    return replace(batch(images=5, views=(2, 4), seed=3), index=torch.tensor([30, 2, 17, 9, 21]))


def step(method: IDMM, given: Batch, progress: Progress) -> None:
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    loss = method(given, progress)
    loss.total.backward()
    method.before_step(progress)
    optimizer.step()
    method.zero_grad()
    method.after_step(progress, {name: seen.value for name, seen in loss.seen.items()})


def test_the_stats_of_updates_are_those_of_the_step_before() -> None:
    method, given = idmm(), six_crops()
    assert float(method(given, START).stats["updates_per_row"]) == 0
    method(given, START).total.backward()
    norms = method.head.weight.grad.norm(dim=1)
    method.zero_grad()
    step(method, given, START)
    stats = method(given, LATER).stats
    others = torch.ones(37, dtype=torch.bool).index_fill(0, given.index, False)
    assert float(stats["rows_updated"]) == pytest.approx(float((norms > 0.1 * norms.max()).float().mean()))
    assert float(stats["other_to_own_update"]) == pytest.approx(float(norms[others].mean() / norms[~others].mean()))


@pytest.mark.parametrize(("smoothing", "low", "high"), [(0.0, 0.0, 1e-9), (0.1, 1e-3, 1.0)])
def test_smoothing_updates_the_rows_that_the_softmax_leaves_alone(smoothing: float, low: float, high: float) -> None:
    method, given = idmm(label_smoothing=smoothing), six_crops()
    with torch.no_grad():
        method.head.bias.fill_(-30.0)
        method.head.bias[given.index] = 0.0
    step(method, given, START)
    assert low <= float(method(given, LATER).stats["other_to_own_update"]) < high


@pytest.mark.parametrize("candidates", [None, 20])
def test_a_step_reads_nothing_back_from_the_device(candidates: int | None) -> None:
    with torch.device("meta"):  # which has no values to read
        method = idmm(mixing=Mixing(1.0, 0.5, 0.5), label_smoothing=0.1, candidates=candidates)
        loss = method(batch(images=3, views=(2, 4)), START)
        loss.total.backward()
        method.before_step(START)
        method.after_step(START, {name: seen.value for name, seen in loss.seen.items()})
        assert all(value.is_meta for value in method(batch(images=3), START).stats.values())


def test_stats_of_updates_can_be_switched_off() -> None:
    loss = idmm(update_threshold=None)(six_crops(), START)
    assert set(loss.stats) == {"own_probability"}
    assert loss.seen == {}


def test_there_is_no_average_unless_asked_for() -> None:
    assert set(idmm().sources()) == {"encoder"}


def test_the_average_moves_once_an_epoch_by_the_published_decay() -> None:
    method = idmm(ema_decay=0.999)
    average = method.sources()["ema"].mix.weight
    expected = average.clone()
    for number in range(4):
        step(method, six_crops(), Progress(number, 20, 2))
        if number % 2 == 1:
            epoch = (number + 1) // 2
            decay = min(0.999, (1 + epoch) / (10 + epoch))
            expected = decay * expected + (1 - decay) * method.backbone.mix.weight.detach()
        torch.testing.assert_close(average.detach(), expected)


def test_the_average_s_decay_ends_at_its_limit() -> None:
    method = idmm(ema_decay=0.5)
    start = method.sources()["ema"].mix.weight.clone()
    step(method, six_crops(), Progress(199, 400, 2))
    torch.testing.assert_close(method.sources()["ema"].mix.weight, 0.5 * (start + method.backbone.mix.weight.detach()))


def test_the_average_does_not_change_the_start_of_the_encoder_and_the_head() -> None:
    plain, averaged = idmm(), idmm(ema_decay=0.999)
    assert torch.equal(plain.head.weight, averaged.head.weight)
    assert torch.equal(plain.backbone.mix.weight, averaged.backbone.mix.weight)
