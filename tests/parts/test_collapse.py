import math

import pytest
import torch

from smalldata_vit.parts.collapse import Watch, effective_rank, entropy, feature_std

UNIFORM = math.log(1024)


def numbers(information: float, level: float = 0.9, std: float = 0.5) -> dict[str, float]:
    """What a pretraining logs when its outputs know `information` (a share of ln K) of their images."""
    return {
        "teacher_entropy": level * UNIFORM,
        "entropy_of_mean": (level + information) * UNIFORM,
        "uniform_entropy": UNIFORM,
        "feature_std": std,
        "loss": 5.0,
    }


def named(information: list[float], every: int = 10, level: float = 0.9, std: float = 0.5) -> list[tuple[int, str]]:
    watch, said = Watch(), []
    for look, value in enumerate(information, start=1):
        sentence = watch.look(numbers(value, level, std), look * every)
        if sentence is not None:
            said.append((look * every, sentence))
    return said


def test_entropy_is_counted_in_nats_and_certainty_has_none() -> None:
    probability = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(probability), torch.tensor([0.6931472, 0.0]))


def test_feature_std_is_one_on_the_sphere_and_nothing_at_a_point() -> None:
    torch.manual_seed(0)
    assert float(feature_std(torch.randn(20_000, 32))) == pytest.approx(1.0, abs=0.01)
    assert float(feature_std(torch.ones(10, 32) * 3)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("count", [500, 20])
def test_effective_rank_counts_the_directions_of_the_variance(count: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(count, 3) @ torch.randn(3, 64)
    values = torch.linalg.svdvals((features - features.mean(0)).double()).square()
    torch.testing.assert_close(
        effective_rank(features).double(), values.sum() ** 2 / (values**2).sum(), rtol=1e-4, atol=0
    )
    assert float(effective_rank(torch.ones(count, 64))) == 0.0


def test_effective_rank_is_the_dimension_for_even_variance() -> None:
    corners = torch.cat([torch.eye(8), -torch.eye(8)])
    assert float(effective_rank(corners)) == pytest.approx(8.0)


def test_a_uniform_output_is_named_once_with_the_knob_to_turn() -> None:
    ((step, sentence),) = named([0.0015] * 50)
    assert step <= 100
    assert "nearly uniform output" in sentence
    assert "method.batch_norm=true" in sentence


def test_a_single_prototype_is_named() -> None:
    ((_, sentence),) = named([0.0] * 20, level=0.1)
    assert "same few prototypes" in sentence


def test_constant_features_are_named_without_any_entropies() -> None:
    watch = Watch()
    said = [watch.look({"feature_std": 0.001}, step) for step in range(0, 200, 20)]
    assert sum(s is not None for s in said) == 1
    assert "same features" in next(s for s in said if s)


# Recorded every ten steps from runs on digits, K = 1024: width-aware start with BatchNorm in the head (k-NN 78 to 88 in
# 200 steps), start 0.02 with BatchNorm (30 to 32), width-aware without BatchNorm (78 to 69, the loss at ln K).
HEALTHY = [0.15, 0.1294, 0.1225, 0.1191, 0.1172, 0.1165, 0.1195, 0.1253, 0.1302, 0.1366, 0.1419, 0.1473, 0.1509, 0.1557]
SLOW = [0.1456, 0.121, 0.1098, 0.0972, 0.083, 0.0736, 0.0669, 0.064, 0.0626, 0.06, 0.06, 0.0598, 0.0583, 0.058]
COLLAPSED = [0.0827, 0.0063, -0.002, 0.0015, 0.0027, 0.0023, 0.0017, 0.0015, 0.0015, 0.0014, 0.0016, 0.0016, 0.0016]


def test_recorded_runs_are_told_apart() -> None:
    assert named(HEALTHY) == named(SLOW) == []
    ((step, _),) = named(COLLAPSED)
    assert step <= 130


def test_a_run_that_passes_near_the_uniform_output_and_mends_is_left_alone() -> None:
    assert named([0.005 * 1.1**n for n in range(40)], every=5) == []


def test_a_collapse_that_comes_back_is_named_again() -> None:
    assert len(named([0.001] * 20 + [0.3] * 5 + [0.001] * 20)) == 2


def test_two_looks_are_too_few_to_say_anything() -> None:
    assert named([0.0, 0.0], every=500) == []
