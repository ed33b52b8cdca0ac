import pytest

from smalldata_vit.schedules import Constant, Cosine, Linear, LinearEpochs, Progress, Steps, WarmupCosine


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
