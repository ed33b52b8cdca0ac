import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_stand_ins import FACTS, LATER, START, TinyBackbone, batch
from torch import Tensor

from smalldata_vit.contracts import Batch
from smalldata_vit.methods.supervised import Supervised, smoothed_cross_entropy
from smalldata_vit.parts.mixing import Mixing


def supervised(**changed: Any) -> Supervised:
    torch.manual_seed(0)
    return Supervised(TinyBackbone, FACTS, **changed)


def spread(label: int, smoothing: float) -> Tensor:
    """The smoothed target of one image, written out."""
    even = smoothing / FACTS.num_classes
    return torch.tensor([even + (1 - smoothing) * (c == label) for c in range(FACTS.num_classes)])


def cost(target: Tensor, logits: Tensor) -> Tensor:
    return -sum((target[c] * (logits[c] - logits.exp().sum().log()) for c in range(len(logits))), start=torch.zeros(()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_cross_entropy_over_images_and_views(smoothing: float) -> None:
    method, given = supervised(label_smoothing=smoothing), batch(images=3, views=(2, 1))
    views = [given.views[0][:, 0], given.views[0][:, 1], given.views[1][:, 0]]
    expected = torch.stack(
        [cost(spread(int(given.label[b]), smoothing), method.classify(v)[b]) for v in views for b in range(3)]
    ).mean()
    torch.testing.assert_close(method(given, START).total, expected)


def test_a_head_of_zeros_starts_at_the_logarithm_of_the_number_of_classes() -> None:
    assert supervised(head_init="zero")(batch(), START).total.item() == pytest.approx(math.log(5), abs=1e-6)


def test_label_smoothing_commutes_with_mixing_the_labels() -> None:
    torch.manual_seed(0)
    logits, first, second = torch.randn(6, 5), torch.arange(6) % 5, torch.arange(6).flip(0) % 5
    share, smoothing = 0.3, 0.1
    of_pairs = share * smoothed_cross_entropy(logits, first, smoothing) + (1 - share) * smoothed_cross_entropy(
        logits, second, smoothing
    )
    for row in range(6):
        mixed = torch.zeros(5)
        mixed[first[row]] += share
        mixed[second[row]] += 1 - share
        torch.testing.assert_close(of_pairs[row], cost((1 - smoothing) * mixed + smoothing / 5, logits[row]))


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_a_blend_is_scored_against_both_labels_in_the_shares_of_its_pixels(cutmix: float) -> None:
    mixing = Mixing(probability=1.0, mixup_alpha=1.0, cutmix_alpha=1.0, cutmix_share=cutmix)
    method, given = supervised(mixing=mixing, label_smoothing=0.1), batch(images=4, views=(2,), seed=3)
    flat, label = given.views[0].transpose(0, 1).flatten(0, 1), given.label.repeat(2)
    mixed = mixing(flat, given.seed, 0, START)
    logits, share = method.classify(mixed.image), float(mixed.share)
    assert 0.0 < share < 1.0
    expected = []
    for row, partner in enumerate(mixed.partner.tolist()):
        target = share * spread(int(label[row]), 0.1) + (1 - share) * spread(int(label[partner]), 0.1)
        expected.append(cost(target, logits[row]))
    torch.testing.assert_close(method(given, START).total, torch.stack(expected).mean())


def test_mixing_depends_on_the_seed_of_the_pass_alone() -> None:
    method, given = supervised(mixing=Mixing(1.0, 1.0, 1.0)), batch(images=6, seed=1)
    torch.manual_seed(5)
    first = method(given, START).total
    torch.manual_seed(6)
    assert torch.equal(method(given, START).total, first)
    assert not torch.equal(method(replace(given, seed=2), START).total, first)


def test_hidden_labels_are_refused() -> None:
    given = batch(images=4)
    with pytest.raises(IndexError, match="-1 is out of bounds"):
        supervised()(replace(given, label=torch.tensor([0, 1, -1, 2])), START)


def test_the_order_of_images_changes_nothing_without_mixing() -> None:
    method, given = supervised(), batch(images=5, views=(2,))
    turned = Batch(
        [given.views[0].flip(0)], given.boxes, given.flips, given.label.flip(0), given.index.flip(0), given.seed
    )
    torch.testing.assert_close(method(given, START).total, method(turned, START).total)


def test_only_mixing_and_batch_statistics_couple_images() -> None:
    class WithNorm(TinyBackbone):
        def __init__(self, drop_path_rate: float = 0.0) -> None:
            super().__init__(drop_path_rate)
            self.norm = torch.nn.BatchNorm2d(3)

    assert not supervised().couples_images
    assert supervised(mixing=Mixing(0.5, 1.0, 1.0)).couples_images
    assert Supervised(WithNorm, FACTS).couples_images


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_head_started_from_a_probe_gives_the_probes_logits(scale: float) -> None:
    method = supervised(normalize_features=True, feature_scale=scale)
    weight, bias, image = torch.randn(5, 12), torch.randn(5), batch().views[0][:, 0]
    method.set_head(weight, bias)
    features = method.encoder(image)
    for row, logits in zip(features, method.classify(image), strict=True):
        expected = [sum(weight[c] * row / row.square().sum().sqrt()) + bias[c] for c in range(5)]
        torch.testing.assert_close(logits, torch.stack(expected))


def test_a_probe_of_another_size_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 12\).*\(5, 12\)"):
        supervised().set_head(torch.zeros(4, 12), torch.zeros(4))


def test_every_parameter_moves_in_two_steps_from_a_head_of_zeros() -> None:
    method = supervised(head_init="zero")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    before = {name: p.clone() for name, p in method.named_parameters()}
    for progress in (START, LATER):
        optimizer.zero_grad()
        method(batch(images=8), progress).total.backward()
        optimizer.step()
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


def test_the_same_seed_starts_the_same_backbone_and_the_loss_is_float32_in_bf16() -> None:
    torch.manual_seed(0)
    expected = TinyBackbone().state_dict()
    method = supervised(mixing=Mixing(1.0, 1.0, 1.0))
    assert all(torch.equal(value, expected[name]) for name, value in method.encoder.state_dict().items())
    exact = method(batch(), START).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method(batch(), START).total
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)
