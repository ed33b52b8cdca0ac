"""A weight that goes down to nothing, and the learning rates of Li et al. to the printed digits."""

import math

import pytest

from smalldata_vit.parts.guidance_schedules import Decay, EpochCosine
from smalldata_vit.schedules import Progress

EPOCHS, STEPS = 300, 390


def at(epoch: float) -> Progress:
    return Progress(round(epoch * STEPS), EPOCHS * STEPS, STEPS)


@pytest.mark.parametrize("until", [{"until_epoch": 100}, {"until_fraction": 1 / 3}], ids=["epochs", "fraction"])
@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("linear", {0: 2.5, 25: 1.875, 50: 1.25, 99: 0.025}),
        ("cosine", {0: 2.5, 25: 1.25 * (1 + math.sqrt(0.5)), 50: 1.25, 75: 1.25 * (1 - math.sqrt(0.5))}),
        ("steps", {0: 2.5, 24: 2.5, 26: 1.875, 51: 1.25, 76: 0.625, 99: 0.625}),
    ],
)
def test_the_weight_falls_along_its_shape(until: dict[str, float], shape: str, values: dict[int, float]) -> None:
    decay = Decay(2.5, shape, **until)  # type: ignore[arg-type]
    assert {epoch: decay(at(epoch)) for epoch in values} == pytest.approx(values)


@pytest.mark.parametrize("shape", ["linear", "cosine", "steps"])
def test_the_weight_is_exactly_zero_from_the_first_step_behind_its_end(shape: str) -> None:
    decay = Decay(2.5, shape, until_epoch=100)  # type: ignore[arg-type]
    last, first = Progress(100 * STEPS - 1, EPOCHS * STEPS, STEPS), at(100)
    assert decay(last) > 0
    assert decay(first) == decay(at(299)) == 0.0


@pytest.mark.parametrize("until", [{}, {"until_epoch": 1, "until_fraction": 0.5}])
def test_the_end_of_the_decay_is_given_in_exactly_one_way(until: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Decay(2.5, **until)  # type: ignore[arg-type]


@pytest.mark.parametrize("until", [{"until_epoch": 0}, {"until_fraction": 0}, {"until_fraction": 1.5}])
def test_a_decay_over_no_time_or_more_than_the_stage_is_refused(until: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="more than no time"):
        Decay(2.5, **until)  # type: ignore[arg-type]


TRANSFORMER = EpochCosine(5e-4, floor=5e-6, warmup_epochs=20, start=5e-7)
CNN = EpochCosine(0.1)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (TRANSFORMER, {0: 5.0e-7, 1: 2.54750e-5, 10: 2.50250e-4, 19: 4.75025e-4, 20: 4.945915e-4}),
        (TRANSFORMER, {100: 3.7625e-4, 150: 2.525e-4, 299: 5.013571e-6}),
        (CNN, {0: 0.1, 1: 0.09999726, 100: 0.075, 150: 0.05, 299: 2.741532e-6}),
    ],
)
def test_the_learning_rates_are_those_of_the_published_code(schedule: EpochCosine, values: dict[int, float]) -> None:
    assert {epoch: schedule(at(epoch)) for epoch in values} == pytest.approx(values, rel=5e-7)


def test_the_learning_rate_is_constant_within_an_epoch() -> None:
    assert len({CNN(Progress(step, EPOCHS * STEPS, STEPS)) for step in range(STEPS, 2 * STEPS)}) == 1
