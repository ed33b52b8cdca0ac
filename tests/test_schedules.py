import pytest

from smalldata_vit.schedules import Constant, Cosine, CosineIDMM, Linear, LinearEpochs, Progress, Steps, WarmupCosine


def at(step: int, total: int, per_epoch: int) -> Progress:
    return Progress(step, total, per_epoch)


PRETRAINING_RATE = WarmupCosine(2e-4, warmup_epochs=30, start=0.0, floor=1e-6, warmup_ends="within")


@pytest.mark.parametrize(
    ("step", "printed"),
    [
        (0, 0.0),
        (1, 6.875215e-8),
        (97, 6.668958e-6),
        (2909, 2.0e-4),
        (2910, 2.0e-4),
        (9700, 1.277295e-4),
        (19399, 1.000002e-6),
    ],
)
def test_the_learning_rate_of_gani_s_pretraining_has_the_printed_digits(step: int, printed: float) -> None:
    assert PRETRAINING_RATE(at(step, 19400, 97)) == pytest.approx(printed, rel=1e-6)


@pytest.mark.parametrize(("step", "printed"), [(0, 0.04), (2910, 0.059619), (9700, 0.22), (19399, 0.400000)])
def test_the_weight_decay_of_gani_s_pretraining_has_the_printed_digits(step: int, printed: float) -> None:
    assert Cosine(0.04, 0.4)(at(step, 19400, 97)) == pytest.approx(printed, abs=5e-7)


@pytest.mark.parametrize(("step", "printed"), [(0, 0.996), (2910, 0.9962180), (9700, 0.998)])
def test_the_teacher_s_momentum_has_the_printed_digits(step: int, printed: float) -> None:
    assert Cosine(0.996, 1.0)(at(step, 19400, 97)) == pytest.approx(printed, abs=5e-8)


def test_the_teacher_s_temperature_has_the_printed_digits_and_changes_only_between_epochs() -> None:
    schedule = LinearEpochs(0.04, 0.07, 10)
    printed = [0.04, 0.04333, 0.04667, 0.05, 0.05333, 0.05667, 0.06, 0.06333, 0.06667, 0.07, 0.07]
    for epoch, value in enumerate(printed):
        first, last = schedule(at(epoch * 97, 19400, 97)), schedule(at(epoch * 97 + 96, 19400, 97))
        assert first == last
        assert first == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize(
    ("step", "printed"),
    [
        (0, 1e-6),
        (1, 1.170769e-6),
        (5849, 9.998292e-4),
        (5850, 1e-3),
        (29250, 5.872373e-4),
        (58499, 1.000001e-6),
    ],
)
def test_the_learning_rate_of_gani_s_fine_tuning_has_the_printed_digits(step: int, printed: float) -> None:
    schedule = WarmupCosine(1e-3, warmup_epochs=10, start=1e-6, floor=1e-6, warmup_ends="after")
    assert schedule(at(step, 58500, 585)) == pytest.approx(printed, rel=1e-6)


BENT = {
    (800, 2, 5e-4): {1: 2.5e-4, 200: 4.2687e-4, 400: 2.4964e-4, 600: 7.2623e-5, 799: 2.5582e-10},
    (200, 10, 1e-3): {10: 9.9683e-4, 50: 8.5752e-4, 100: 4.8498e-4, 150: 1.2213e-4, 199: 2.3109e-6},
    (100, 10, 5e-5): {10: 4.9296e-5, 50: 2.3416e-5, 99: 5.1359e-7},
}


@pytest.mark.parametrize(
    ("epochs", "warmup", "peak", "epoch", "printed"),
    [(*stage, epoch, value) for stage, values in BENT.items() for epoch, value in values.items()],
)
def test_the_bent_cosine_of_idmm_has_the_printed_digits(
    epochs: int, warmup: int, peak: float, epoch: int, printed: float
) -> None:
    assert CosineIDMM(peak, warmup)(at(epoch * 8, epochs * 8, 8)) == pytest.approx(printed, rel=5e-5)


@pytest.mark.parametrize(
    ("epochs", "warmup", "bent", "true"),
    [
        (800, 2, 0.4993, 0.5020),
        (200, 2, 0.4971, 0.5079),
        (100, 2, 0.4942, 0.5160),
        (800, 10, 0.4964, 0.5099),
        (200, 10, 0.4850, 0.5413),
        (100, 10, 0.4683, 0.5868),
    ],
)
def test_half_way_the_bent_cosine_is_below_the_true_one_by_the_printed_digits(
    epochs: int, warmup: int, bent: float, true: float
) -> None:
    half = at(epochs * 4, epochs * 8, 8)
    assert CosineIDMM(1.0, warmup)(half) == pytest.approx(bent, abs=6e-5)
    assert WarmupCosine(1.0, warmup)(half) == pytest.approx(true, abs=6e-5)


def test_the_bent_cosine_warms_up_from_zero_a_step_at_a_time_and_rises_again_at_the_end() -> None:
    rates = [CosineIDMM(1.0, 10)(at(step, 800, 8)) for step in range(800)]
    assert rates[:3] == pytest.approx([0.0, 1 / 80, 2 / 80])
    assert rates.index(min(rates[1:])) in range(93 * 8, 94 * 8)
    assert rates[-1] > rates[94 * 8]


def test_a_stage_that_ends_within_the_warm_up_never_divides_by_nothing() -> None:
    assert CosineIDMM(1.0, 2)(at(16, 16, 8)) == 1.0


def test_a_warm_up_given_as_a_fraction_follows_the_length_of_the_stage() -> None:
    schedule = WarmupCosine(1.0, warmup_fraction=0.1)
    assert schedule(at(5, 100, 7)) == pytest.approx(0.5)
    assert schedule(at(50, 1000, 7)) == pytest.approx(0.5)


def test_a_warm_up_longer_than_the_stage_never_passes_its_peak() -> None:
    schedule = WarmupCosine(1.0, warmup_epochs=10)
    assert [schedule(at(s, 4, 1)) for s in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_the_simple_schedules_follow_their_formulas() -> None:
    half = at(50, 100, 10)
    assert Constant(3.0)(half) == 3.0
    assert Linear(1.0, 0.0)(half) == 0.5
    assert Steps(1.0, [0.3, 0.5, 0.9], factor=0.1)(half) == pytest.approx(0.01)


def test_progress_counts_fraction_and_epochs_as_real_numbers() -> None:
    progress = at(25, 100, 10)
    assert (progress.fraction, progress.epoch) == (0.25, 2.5)
