import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_stand_ins import FACTS, START, TinyBackbone, batch
from torch import Tensor, nn

from smalldata_vit import handoff
from smalldata_vit.backbones import positions
from smalldata_vit.backbones.vit import vit
from smalldata_vit.contracts import Batch, DataFacts
from smalldata_vit.methods.idmm import IDMM
from smalldata_vit.parts.mixing import Mixed, Mixing
from smalldata_vit.schedules import Progress


def cutmix() -> Mixing:
    return Mixing(1.0, 0.5, 0.5, fold=True, cutmix_share=1.0)


def idmm(mixing: Mixing | None = None, facts: DataFacts = FACTS, **changed: Any) -> IDMM:
    torch.manual_seed(0)
    return IDMM(TinyBackbone, facts, mixing, **changed)


def six_crops(images: int = 5, seed: int = 3) -> Batch:
    """Two groups of equally large views, as IDMM has them; images in no particular order."""
    given = batch(images=images, views=(2, 4), seed=seed)
    views = [torch.randn(images, v, 3, 16, 16, generator=torch.Generator().manual_seed(v)) for v in (2, 4)]
    return replace(given, views=views, index=torch.randperm(37, generator=torch.Generator().manual_seed(4))[:images])


def features_and_targets(method: IDMM, given: Batch, number: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """z and dense t of every view of a group, from the paper's formula."""
    group = given.views[number]
    image = torch.cat([group[:, view] for view in range(group.shape[1])])
    index, share, partner = given.index.repeat(group.shape[1]), 1.0, torch.arange(len(image))
    if method.mixing is not None:
        image, partner, drawn = method.mixing(image, given.seed, number, START)
        share = float(drawn)
    target = torch.full((len(image), FACTS.num_images), smoothing / FACTS.num_images)
    for row in range(len(image)):
        target[row, index[row]] += share * (1 - smoothing)
        target[row, index[partner[row]]] += (1 - share) * (1 - smoothing)
    return method.backbone(image).detach(), target


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixing", [None, cutmix()])
def test_the_loss_is_the_sum_of_the_groups_means(mixing: Mixing | None, smoothing: float) -> None:
    method, given = idmm(mixing, label_smoothing=smoothing), six_crops()
    loss = method(given, START)
    assert list(loss.terms) == ["cross_entropy_0", "cross_entropy_1"]
    for number, term in enumerate(loss.terms.values()):
        z, target = features_and_targets(method, given, number, smoothing)
        torch.testing.assert_close(term, -(target * method.head(z).log_softmax(1)).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_on_each_row_is_the_paper_s_closed_form(smoothing: float) -> None:
    method, given = idmm(cutmix(), label_smoothing=smoothing), six_crops()
    nn.init.normal_(method.head.bias)
    expected_weight, expected_bias = torch.zeros_like(method.head.weight), torch.zeros_like(method.head.bias)
    for number in range(2):
        z, target = features_and_targets(method, given, number, smoothing)
        error = (method.head(z).softmax(1) - target).detach() / len(z)
        for k in range(FACTS.num_images):
            expected_weight[k] += (error[:, k, None] * z).sum(0)
            expected_bias[k] += error[:, k].sum()
    method(given, START).total.backward()
    torch.testing.assert_close(method.head.weight.grad, expected_weight)
    torch.testing.assert_close(method.head.bias.grad, expected_bias)


def test_the_first_loss_of_deit_tiny_on_2040_images_is_twice_ln_2040() -> None:
    torch.manual_seed(0)
    facts = DataFacts(num_images=2040, num_classes=102, image_size=112, mean=(0.5,) * 3, std=(0.25,) * 3)
    network = vit(112, patch_size=16, width=192, depth=12, heads=3, mlp_ratio=4, drop_path_rate=0.1)
    method = IDMM(lambda: network, facts, cutmix())
    given = batch(images=2, views=(2, 4))
    views = [torch.randn(2, v, 3, 112, 112) for v in (2, 4)]
    loss = method(replace(given, views=views, index=torch.tensor([7, 2039])), START)
    assert 2 * math.log(2040) == pytest.approx(15.241, abs=5e-4)
    assert loss.total.item() == pytest.approx(2 * math.log(2040), abs=0.3)
    assert sum(p.numel() for p in method.parameters()) == 5_889_912


def test_position_tables_go_from_50_to_197_to_785_rows() -> None:
    networks = [
        vit(size, patch_size=16, width=8, depth=1, heads=2, mlp_ratio=1, drop_path_rate=0.0) for size in (112, 224, 448)
    ]
    tables = [network.pos_embed for network in networks]
    assert [table.shape[1] for table in tables] == [50, 197, 785]
    for number, (old, new) in enumerate([(7, 14), (14, 28)]):
        handoff.load_encoder(networks[number + 1], networks[number].state_dict())
        expected = positions.resized(tables[number][:, 1:], (old, old), (new, new), "size")
        torch.testing.assert_close(tables[number + 1][:, 1:], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(tables[number + 1][:, :1], tables[number][:, :1])


def test_the_order_of_crops_within_a_group_does_not_matter() -> None:
    method, given = idmm(label_smoothing=0.1), six_crops()
    turned = replace(given, views=[group.flip(1) for group in given.views])
    torch.testing.assert_close(method(turned, START).total, method(given, START).total)


@pytest.mark.parametrize("views", [(2,), (1,), (2, 4), (1, 2, 3)])
def test_any_number_of_groups_has_a_term_each(views: tuple[int, ...]) -> None:
    loss = idmm(cutmix())(batch(images=3, views=views), START)
    assert list(loss.terms) == [f"cross_entropy_{number}" for number in range(len(views))]


def draws(seeds: range) -> list[list[tuple[Tensor, float]]]:
    """Partners and λ of both groups in many passes of 8 images."""
    images = [torch.zeros(16, 3, 32, 32), torch.zeros(32, 3, 32, 32)]
    mixed = [[cutmix()(image, seed, number, START) for number, image in enumerate(images)] for seed in seeds]
    return [[(m.partner, float(m.share)) for m in groups] for groups in mixed]


def test_the_groups_shares_are_independent_and_at_least_one_half() -> None:
    shares = torch.tensor([[share for _, share in groups] for groups in draws(range(400))])
    assert bool((shares >= 0.5).all())
    assert abs(float(torch.corrcoef(shares.T)[0, 1])) < 0.15
    assert float(shares.std(0).min()) > 0.1


def test_an_image_meets_its_own_other_view_and_itself_as_often_as_the_permutation_says() -> None:
    rows = torch.arange(16)
    partners = torch.stack([groups[0][0] for groups in draws(range(400))])
    itself = (partners == rows).float().mean()
    other_view = ((partners % 8 == rows % 8) & (partners != rows)).float().mean()
    assert float(itself) == pytest.approx(1 / 16, abs=0.015)
    assert float(other_view) == pytest.approx(1 / 16, abs=0.015)


def test_each_group_is_mixed_by_a_draw_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, mix = [], Mixing.__call__

    def recorded(self: Mixing, image: Tensor, seed: int, group: int, progress: Progress) -> Mixed:
        seen.append((len(image), seed, group))
        return mix(self, image, seed, group, progress)

    monkeypatch.setattr(Mixing, "__call__", recorded)
    idmm(cutmix())(six_crops(images=5, seed=3), START)
    assert seen == [(10, 3, 0), (20, 3, 1)]


def test_candidates_for_all_images_give_exactly_the_full_loss() -> None:
    given = six_crops()
    full, all_drawn = idmm(cutmix(), label_smoothing=0.1), idmm(cutmix(), label_smoothing=0.1, candidates=37)
    assert torch.equal(full(given, START).total, all_drawn(given, START).total)


def test_nearly_all_candidates_give_nearly_the_full_loss() -> None:
    given = six_crops()
    full = idmm(cutmix(), label_smoothing=0.1)(given, START).total
    sampled = idmm(cutmix(), label_smoothing=0.1, candidates=36)(given, START).total
    torch.testing.assert_close(sampled, full, rtol=1e-3, atol=0)
    assert not torch.equal(sampled, full)


def test_sampled_classes_make_the_images_of_a_forward_depend_on_each_other() -> None:
    assert idmm(candidates=20).couples_images
    assert not idmm(candidates=37).couples_images


def test_a_smoothing_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.0"):
        idmm(label_smoothing=1.0)
