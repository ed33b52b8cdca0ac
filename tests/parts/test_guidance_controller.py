"""The controller of guidance: its derivative as it is written, off for good, and a memory that is saved."""

import copy
import random

import pytest
import torch

from smalldata_vit.parts.guidance_controller import LossDerivative, smoothed_derivative
from smalldata_vit.schedules import Progress


def written_out(losses: list[float], e: int, window: int) -> float:
    """s(e) from the whole history L(1), L(2), …"""
    loss = dict(enumerate(losses, start=1))
    d = {1: 0.0}
    for k in range(2, e + 1):
        if k <= window:
            d[k] = (loss[k] - sum(loss[j] for j in range(1, k)) / (k - 1)) / k
        else:
            d[k] = (loss[k] - loss[k - window]) / window
    if e <= window:
        return sum(d.values()) / e
    return sum(d[k] for k in range(e - window + 1, e + 1)) / window


@pytest.mark.parametrize("window", [1, 3, 12])
def test_the_derivative_from_the_last_losses_equals_that_from_the_whole_history(window: int) -> None:
    chance = random.Random(0)
    losses = [30 / (1 + 0.1 * k) + chance.random() for k in range(4 * window + 3)]
    for e in range(1, len(losses) + 1):
        latest = losses[max(0, e - 2 * window) : e]
        assert smoothed_derivative(latest, e, window) == pytest.approx(written_out(losses, e, window), abs=1e-12)


def fed(controller: LossDerivative, losses: list[float], steps: int = 2, first: int = 0) -> list[bool]:
    """Whether it guides after each epoch of `steps` global batches whose mean loss is that epoch's number."""
    guides = []
    for epoch, loss in enumerate(losses, start=first):
        for step in range(steps):
            spread = 0.5 if step % 2 else -0.5
            progress = Progress(epoch * steps + step, 1000, steps)
            controller.after_step(progress, torch.tensor(loss + spread))
        guides.append(controller.on)
    return guides


FALLING_THEN_FLAT = [10.0, 8.0, 6.0, 5.0, 4.9, 4.9, 4.9, 4.9, 4.9, 4.9, 4.9]


def test_it_guides_until_the_smoothed_derivative_of_the_epoch_means_reaches_the_threshold() -> None:
    window, threshold = 3, -0.2
    below = [written_out(FALLING_THEN_FLAT, e, window) < threshold for e in range(2, 12)]
    stop = below.index(False) + 2
    assert 3 < stop < 11
    assert fed(LossDerivative(window, threshold), FALLING_THEN_FLAT) == [e < stop for e in range(1, 12)]


def test_it_is_off_for_good_even_if_the_loss_falls_again() -> None:
    controller = LossDerivative(window=3, threshold=-0.2)
    assert fed(controller, FALLING_THEN_FLAT)[-1] is False
    assert fed(controller, [1.0, 0.1, 0.0], first=11) == [False] * 3


def test_nothing_is_decided_during_the_warm_up() -> None:
    assert fed(LossDerivative(3, -0.2, warmup_epochs=6), [1.0] * 9) == [True] * 6 + [False] * 3


@pytest.mark.parametrize(("comparison", "stays"), [("at_least", False), ("above", True)])
def test_a_derivative_that_equals_the_threshold_ends_guidance_unless_it_must_be_above(
    comparison: str, stays: bool
) -> None:
    assert fed(LossDerivative(3, 0.0, comparison), [1.0] * 3)[-1] is stays  # type: ignore[arg-type]


def test_a_loaded_memory_goes_on_where_it_was_saved_within_an_epoch_too() -> None:
    whole, first = LossDerivative(3, -0.2), LossDerivative(3, -0.2)
    fed(whole, FALLING_THEN_FLAT[:4])
    fed(first, FALLING_THEN_FLAT[:4])
    for controller in (whole, first):
        controller.after_step(Progress(8, 1000, 2), torch.tensor(3.0))
    again = LossDerivative(3, -0.2)
    assert again.on
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for controller in (whole, again):
        controller.after_step(Progress(9, 1000, 2), torch.tensor(3.1))
        fed(controller, FALLING_THEN_FLAT[5:], first=5)
    assert whole.on is again.on is False
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_what_the_host_knew_is_forgotten_when_another_memory_is_loaded() -> None:
    off, controller = LossDerivative(3, -0.2), LossDerivative(3, -0.2)
    fed(off, FALLING_THEN_FLAT)
    assert controller.on
    controller.load_state_dict(off.state_dict())
    assert not controller.on


@pytest.mark.parametrize("wrong", [{"window": 0}, {"warmup_epochs": 0}])
def test_a_window_or_warm_up_of_no_epoch_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        LossDerivative(**wrong)  # type: ignore[arg-type]
