import math
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from smalldata_vit.parts.instances import Targets, candidates_of, drawn_classes, instance_entropy

WIDTH, CLASSES = 6, 23
INDEX = torch.tensor([4, 0, 4, 6])


def head(classes: int) -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(WIDTH, classes, dtype=torch.float64)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def features(rows: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def estimated_sum(logits: Tensor, index: Tensor, drawn: Tensor) -> Tensor:
    chosen = candidates_of(index, drawn, len(logits))
    return (logits[chosen.classes] + chosen.log_weight).exp().sum()


def test_the_sum_over_sampled_classes_is_right_on_average_over_all_samples() -> None:
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates = [estimated_sum(logits, INDEX, torch.tensor(drawn)) for drawn in combinations(range(9), 5)]
    by_size: dict[int, list[Tensor]] = {}
    for drawn, estimate in zip(combinations(range(9), 5), estimates, strict=True):
        by_size.setdefault(len({0, 4, 6} & set(drawn)), []).append(estimate)
    for same in by_size.values():
        torch.testing.assert_close(torch.stack(same).mean(), logits.exp().sum(), rtol=1e-6, atol=0)


def test_sampling_all_classes_gives_the_full_sum() -> None:
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(estimated_sum(logits, INDEX, torch.arange(9)), logits.exp().sum())


def test_the_classes_of_all_images_of_a_forward_are_candidates_once() -> None:
    chosen = candidates_of(INDEX, torch.tensor([4, 1, 2, 8, 7]), 9)
    counted = chosen.classes[chosen.log_weight.isfinite()]
    assert sorted(counted.tolist()) == [0, 1, 2, 4, 6, 7, 8]
    assert torch.equal(chosen.classes[chosen.place], INDEX)
    assert bool((chosen.log_weight[chosen.place] == 0).all())
    assert float(chosen.log_weight[-1]) == pytest.approx(math.log((9 - 3) / 4))


def test_the_draw_is_a_function_of_the_seed_and_holds_no_class_twice() -> None:
    first = drawn_classes(1000, 300, seed=7)
    assert torch.equal(first, drawn_classes(1000, 300, seed=7))
    assert not torch.equal(first, drawn_classes(1000, 300, seed=8))
    assert len(first.unique()) == 300


def test_fewer_candidates_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates=4 must be more than the 4 images"):
        candidates_of(INDEX, torch.arange(4), 9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_sampled_loss_and_gradient_come_near_the_full_ones_as_more_classes_are_drawn(smoothing: float) -> None:
    classes, index = 160, torch.arange(0, 160, 20)
    layer, z = head(classes), features(8)
    share = torch.tensor(0.7, dtype=torch.float64)

    def loss_and_gradient(count: int | None, seed: int) -> tuple[float, Tensor]:
        layer.weight.grad = None
        chosen = None if count is None else candidates_of(index, drawn_classes(classes, count, seed), classes)
        place = index if chosen is None else chosen.place
        loss = instance_entropy(z, layer, Targets(place, place.flip(0), share), smoothing, chosen)[0].mean()
        loss.backward()
        return loss.item(), layer.weight.grad.clone()

    full, full_gradient = loss_and_gradient(None, 0)
    distances = []
    for count in (10, 40, 120, 160):
        sampled = [loss_and_gradient(count, seed) for seed in range(30)]
        loss_distance = sum(abs(loss - full) for loss, _ in sampled) / 30
        mean_gradient = torch.stack([gradient for _, gradient in sampled]).mean(0)
        distances.append((loss_distance, float((mean_gradient - full_gradient).norm() / full_gradient.norm())))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx((0, 0), abs=1e-9)
    assert distances[-2][0] < 0.1


def test_a_class_that_was_not_drawn_has_no_gradient_but_that_of_smoothing() -> None:
    layer, z = head(CLASSES), features(4)
    chosen = candidates_of(INDEX, torch.arange(8, 13), CLASSES)
    targets = Targets(chosen.place, chosen.place, torch.ones((), dtype=torch.float64))
    instance_entropy(z, layer, targets, 0.1, chosen)[0].sum().backward()
    torch.testing.assert_close(layer.weight.grad[20], -0.1 / CLASSES * z.detach().sum(0))
