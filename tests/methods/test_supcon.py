from dataclasses import replace

import pytest
import torch
from method_stand_ins import FACTS, START, TinyBackbone, batch
from torch import Tensor

from smalldata_vit.methods.supcon import SupCon, supervised_contrast


def written_out(projections: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Eq. (2): the outer sum over views i that have positives, the inner ones over P(i) and A(i)."""
    views, images, _ = projections.shape
    z = [p / p.norm() for p in projections.reshape(views * images, -1)]
    y = [int(label[i % images]) for i in range(views * images)]
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            total = sum(torch.exp(z[i] @ z[a] / temperature) for a in others)
            parts = [torch.log(torch.exp(z[i] @ z[p] / temperature) / total) for p in positives]
            losses.append(-sum(parts) / len(positives))
    return torch.stack(losses).mean()


def made(views: int, images: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * views + images)
    return torch.randn(views, images, 5, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("label", [[0, 0], [0, 1, 0, 2, 1], [3, 3, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("views", [2, 3])
def test_the_loss_and_its_gradient_are_the_paper_s_sums(views: int, label: list[int], temperature: float) -> None:
    given = made(views, len(label))
    loss = supervised_contrast(given, torch.tensor(label), temperature).loss
    expected = written_out(given, torch.tensor(label), temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(one, given)[0] for one in (loss, expected)), atol=1e-10, rtol=1e-7)


def test_with_one_view_an_image_without_classmates_is_only_a_negative() -> None:
    given, label = made(1, 5), torch.tensor([0, 1, 0, 2, 1])
    torch.testing.assert_close(supervised_contrast(given, label, 0.1).loss, written_out(given, label, 0.1))


def test_without_any_positive_the_loss_is_zero_and_so_is_its_gradient() -> None:
    given = made(1, 3)
    contrast = supervised_contrast(given, torch.arange(3), 0.1)
    contrast.loss.backward()
    assert float(contrast.loss.detach()) == float(contrast.positive_first) == 0
    assert torch.equal(given.grad, torch.zeros_like(given))


def test_the_most_similar_view_is_a_positive_where_classes_lie_apart() -> None:
    corners = torch.eye(3)[[0, 1, 2, 0]]
    assert float(supervised_contrast(corners[None].repeat(2, 1, 1), torch.tensor([0, 1, 2, 0]), 0.1)[1]) == 1


def supcon() -> SupCon:
    torch.manual_seed(0)
    return SupCon(TinyBackbone, FACTS, temperature=0.1, hidden=16, projection=8)


def test_the_order_of_images_and_of_views_does_not_matter() -> None:
    method, given = supcon(), batch(images=7)
    turned = replace(given, views=[given.views[0].flip(0, 1)], label=given.label.flip(0))
    torch.testing.assert_close(method(turned, START).total, method(given, START).total)


def test_names_of_classes_do_not_matter_but_who_shares_one_does() -> None:
    method, given = supcon(), batch(images=4)

    def loss(*label: int) -> Tensor:
        return method(replace(given, label=torch.tensor(label)), START).total

    assert torch.equal(loss(0, 0, 1, 1), loss(4, 4, 2, 2))
    assert not torch.allclose(loss(0, 0, 1, 1), loss(0, 1, 0, 1))


def test_hidden_labels_are_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"2 of 4 images have a hidden label .*reads_labels=true"):
        supcon()(replace(batch(images=4), label=torch.tensor([1, -1, 0, -1])), START)
