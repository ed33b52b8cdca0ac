"""Relative locations against the formulas of Liu et al. written out, and what they leave alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import DataFacts
from smalldata_vit.parts.relative_locations import RelativeLocations, RiseAndFall, drawn_places
from smalldata_vit.schedules import Constant, Progress

FACTS = DataFacts(num_images=37, num_classes=5, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
INDEX = torch.tensor([5, 0, 31])


def part(**changed: object) -> RelativeLocations:
    torch.manual_seed(0)
    student = vit(8, 2, 12, 3, 3, 2, 0.0)
    return RelativeLocations(student, FACTS, Constant(0.5), **{"pairs": 7, "hidden": 16, **changed})  # type: ignore[arg-type]


def maps(views: int = 2, sides: tuple[int, int] = (4, 4)) -> Tensor:
    return torch.randn(views * len(INDEX), 12, *sides, generator=torch.Generator().manual_seed(1))


def pairs_of(feature: Tensor, views: int = 2, count: int = 7) -> list[tuple[Tensor, tuple[int, int]]]:
    """Both features of each pair side by side, and the displacement, place by place."""
    first, second = drawn_places(INDEX, views, count, feature.shape[2:], 3, 0)
    found = []
    for n, one in enumerate(feature):
        for a, b in zip(first[n].tolist(), second[n].tolist(), strict=True):
            (r, c), (u, v) = divmod(a, one.shape[2]), divmod(b, one.shape[2])
            found.append((torch.cat([one[:, r, c], one[:, u, v]]), (r - u, c - v)))
    return found


@pytest.mark.parametrize("sides", [(4, 4), (2, 2), (3, 5)])
@pytest.mark.parametrize("use_abs", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_l1_loss_is_the_mean_over_pairs_and_axes_written_out(
    sides: tuple[int, int], use_abs: bool, normalize: bool
) -> None:
    one, feature = part(use_abs=use_abs, normalize=normalize), maps(2, sides)
    errors = []
    for both, moved in pairs_of(feature):
        target = [abs(d) if use_abs else d + k - 1 for d, k in zip(moved, sides, strict=True)]
        if normalize:
            target = [t / (k - 1 if use_abs else 2 * (k - 1)) for t, k in zip(target, sides, strict=True)]
        errors.append((one.layers(both) - torch.tensor(target)).abs())
    torch.testing.assert_close(one(feature, INDEX, 3, 0), torch.stack(errors).mean())


@pytest.mark.parametrize("use_abs", [True, False])
def test_the_cross_entropy_is_the_sum_over_axes_of_the_mean_over_pairs(use_abs: bool) -> None:
    one, feature = part(mode="ce", use_abs=use_abs), maps()
    assert [axis.out_features for axis in one.axes] == [4 if use_abs else 7] * 2
    losses = []
    for both, moved in pairs_of(feature):
        hidden = one.layers(both)
        target = [abs(d) if use_abs else d + 3 for d in moved]
        losses.append(sum(-F.log_softmax(axis(hidden), 0)[t] for axis, t in zip(one.axes, target, strict=True)))
    torch.testing.assert_close(one(feature, INDEX, 3, 0), torch.stack(losses).mean())


def test_cycle_back_regression_weighs_the_squared_error_by_the_variance() -> None:
    one, feature = part(mode="cbr"), maps()
    losses = []
    for both, moved in pairs_of(feature):
        hidden = one.layers(both)
        for axis, d in zip(one.axes, moved, strict=True):
            share = axis(hidden).softmax(0)
            mean = sum(k * share[k] for k in range(4))
            variance = sum((k - mean) ** 2 * share[k] for k in range(4)) + 1e-8
            losses.append(torch.exp(-variance.log()) * (mean - abs(d)) ** 2 + 0.001 * variance.log())
    torch.testing.assert_close(one(feature, INDEX, 3, 0), 2 * torch.stack(losses).mean())


def test_the_network_has_two_hidden_layers_of_512_and_two_outputs() -> None:
    layers = part(hidden=512).layers
    assert [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)] == [
        (24, 512),
        (512, 512),
        (512, 2),
    ]
    assert [type(m) for m in layers[1::2]] == [nn.ReLU, nn.ReLU]


def test_first_weights_are_a_truncated_normal_with_0_02_and_draw_nothing_from_the_common_generator() -> None:
    torch.manual_seed(0)
    student = vit(8, 2, 12, 3, 3, 2, 0.0)
    before = torch.get_rng_state()
    one = RelativeLocations(student, FACTS, Constant(0.5))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.layers[2].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not one.layers[2].bias.any()


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (1, 0.05), (19, 0.95), (20, 1), (60, 0.5), (99, 0.0125)])
def test_the_weight_rises_over_20_epochs_and_falls_towards_0_behind_the_last(epoch: int, share: float) -> None:
    schedule = RiseAndFall(0.5)
    for step in (7 * epoch, 7 * epoch + 6):
        assert schedule(Progress(step, 700, 7)) == pytest.approx(0.5 * share)


def test_a_weight_without_a_rise_begins_at_its_peak() -> None:
    assert RiseAndFall(0.1, rise_epochs=0)(Progress(0, 10, 1)) == pytest.approx(0.1)


def test_places_are_uniform_and_pairs_are_drawn_with_replacement() -> None:
    first, second = drawn_places(torch.arange(2000), 1, 64, (4, 4), 11, 0)
    for places in (first, second):
        count = places.flatten().bincount(minlength=16)
        assert len(count) == 16
        assert float(((count - 8000.0) ** 2 / 8000).sum()) < 45  # chi squared with 15 degrees: 45 has p = 1e-4
    joint = (first * 16 + second).flatten().bincount(minlength=256)
    assert float(((joint - 500.0) ** 2 / 500).sum()) < 350  # 255 degrees: 350 has p = 7e-5
    assert math.isclose(float((first == second).float().mean()), 1 / 16, rel_tol=0.05)


def test_pairs_depend_on_image_view_group_and_seed_and_on_nothing_else() -> None:
    def drawn(index: list[int], views: int = 2, seed: int = 3, group: int = 0) -> Tensor:
        return torch.stack(drawn_places(torch.tensor(index), views, 9, (4, 4), seed, group)).unflatten(1, (views, -1))

    whole = drawn([5, 0, 31])
    assert torch.equal(drawn([31, 5]), whole[:, :, [2, 0]])
    assert torch.equal(drawn([5, 0, 31], views=1), whole[:, :1])
    for other in (drawn([5, 0, 31], seed=4), drawn([5, 0, 31], group=1), whole[:, :, [1, 2, 0]], whole.flip(1)):
        assert float((other == whole).float().mean()) < 0.3


def test_classes_refuse_a_grid_that_they_do_not_name() -> None:
    with pytest.raises(ValueError, match="a grid of 4 x 4, and a view gave one of 2 x 2"):
        part(mode="ce")(maps(2, (2, 2)), INDEX, 3, 0)


def test_a_backbone_without_maps_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Linear gives no maps, .* method.relative_locations=null"):
        RelativeLocations(nn.Linear(3, 3), FACTS, Constant(0.5))


def test_no_pair_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs=0 has to be 1 or more"):
        part(pairs=0)
