import math

import pytest
import torch
from torch import nn

from smalldata_vit.parts.contrast import cosines, info_nce, spread
from smalldata_vit.parts.perceptron import Norms, Perceptron
from smalldata_vit.parts.projected import Projected


def test_cosines_are_float32_and_unrounded_under_autocast() -> None:
    one, other = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = torch.stack([torch.cosine_similarity(row, other) for row in one])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cosines(one, other)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_info_nce_is_the_mean_surprise_at_the_positive() -> None:
    logits, positive = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([0, 2])
    surprise = [math.log(math.e**2 + 1 + math.e) - 2, math.log(2 + math.e**3)]
    loss, first = info_nce(logits, positive)
    assert float(loss) == pytest.approx(sum(surprise) / 2, abs=1e-6)
    assert float(first) == 0.5


def test_equal_features_spread_in_no_direction() -> None:
    found = spread(torch.ones(2, 5, 7))
    assert float(found["feature_std"]) == pytest.approx(0, abs=1e-6)
    assert float(found["effective_rank"]) == 0


@pytest.mark.parametrize(
    ("norms", "kinds"),
    [
        ("none", "Linear ReLU Linear ReLU Linear"),
        ("inner", "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear"),
        ("all", "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear BatchNorm1d"),
    ],
)
def test_batch_norm_stands_where_it_is_asked_for(norms: Norms, kinds: str) -> None:
    head = Perceptron(4, 6, 3, layers=3, norms=norms)
    assert [type(part).__name__ for part in head] == kinds.split()
    assert next(part.bias is None for part in head if isinstance(part, nn.Linear)) == (norms != "none")


def test_the_last_batch_norm_has_no_scale_and_no_shift() -> None:
    last = Perceptron(4, 6, 3, layers=2, norms="all")[-1]
    assert list(last.parameters()) == []


def test_a_head_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="head of 0 layers"):
        Perceptron(4, 6, 3, layers=0, norms="none")


class Mean(nn.Module):
    """Features (B, 3): the mean colour."""

    num_features = 3

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3))


@pytest.mark.parametrize("apart", [True, False])
def test_batch_norm_sees_each_view_alone_only_if_views_are_apart(apart: bool) -> None:
    torch.manual_seed(0)
    network = Projected(Mean(), hidden=8, projection=4, layers=2, norms="all", views_apart=apart)
    views = torch.randn(6, 2, 3, 4, 4) + torch.tensor([0.0, 5.0])[:, None, None, None]
    means = network(views).projections.mean(1)
    assert bool((means.abs() < 1e-5).all()) == apart
    torch.testing.assert_close(means.sum(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_outputs_are_by_view_then_image() -> None:
    network = Projected(Mean(), hidden=8, projection=4, layers=2, norms="none")
    views = torch.randn(5, 2, 3, 4, 4)
    features, projections = network(views)
    torch.testing.assert_close(features[1, 3], views[3, 1].mean((1, 2)))
    torch.testing.assert_close(projections[1, 3], network.projector(features[1, 3:4])[0])
