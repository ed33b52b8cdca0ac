import math
from dataclasses import replace

import pytest
import torch
from method_stand_ins import FACTS, START, TinyBackbone, batch, rows
from torch import Tensor

from smalldata_vit.methods.simclr import SimCLR, nt_xent


def written_out(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Eq. (1) for every view i with the other view j of its image, and the mean."""
    z = torch.cat([one, other])
    count, losses = len(z), []
    for i in range(count):
        j = (i + count // 2) % count
        score = [torch.exp(z[i] @ z[k] / (z[i].norm() * z[k].norm()) / temperature) for k in range(count)]
        losses.append(-torch.log(score[j] / sum(score[k] for k in range(count) if k != i)))
    return torch.stack(losses).mean()


def projections(images: int, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images)
    one, other = torch.randn(2, images, width, generator=generator, dtype=torch.float64).unbind(0)
    return one.requires_grad_(), other.requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("images", [1, 2, 7])
def test_nt_xent_and_its_gradient_are_the_paper_s_sum(images: int, temperature: float) -> None:
    one, other = projections(images)
    loss, expected = nt_xent(one, other, temperature).loss, written_out(one, other, temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (one, other)), torch.autograd.grad(expected, (one, other)), atol=1e-10, rtol=1e-7
    )


def test_views_that_are_all_alike_give_the_logarithm_of_the_others() -> None:
    same = torch.ones(6, 4)
    assert float(nt_xent(same, same, 0.1).loss) == pytest.approx(math.log(11), abs=1e-5)


def test_the_positive_comes_first_where_both_views_of_an_image_are_alike() -> None:
    one, _ = projections(7)
    assert float(nt_xent(one, one, 0.1).positive_first) == 1
    assert float(nt_xent(one, one.roll(1, 0), 0.1).positive_first) == 0


def simclr() -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(TinyBackbone, FACTS, temperature=0.1, hidden=16, projection=8)


def test_the_order_of_images_and_of_views_does_not_matter() -> None:
    method, given = simclr(), batch(images=6)
    turned = replace(given, views=[given.views[0].flip(0, 1)])
    torch.testing.assert_close(method(turned, START).total, method(given, START).total)


def test_negatives_are_the_other_images_of_the_pass() -> None:
    method, given = simclr().eval(), batch(images=6)
    alone = [method(rows(given, slice(b, b + 1)), START).total.item() for b in range(6)]
    assert alone == pytest.approx([0.0] * 6, abs=1e-6)
    assert float(method(given, START).total.detach()) > 0.1


def test_the_loss_watches_the_features_of_both_views() -> None:
    stats = simclr()(batch(images=6), START).stats
    assert set(stats) == {"feature_std", "effective_rank", "positive_first"}
    assert 1 <= float(stats["effective_rank"]) <= 12
    assert not any(value.requires_grad for value in stats.values())


def test_views_of_other_numbers_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="have 2, 8 views of an image"):
        simclr()(batch(images=3, views=(2, 8)), START)
