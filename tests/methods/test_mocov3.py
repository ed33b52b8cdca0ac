from dataclasses import replace
from typing import Any

import pytest
import torch
from method_stand_ins import FACTS, START, TinyBackbone, batch
from torch import Tensor

from smalldata_vit.methods.mocov3 import MoCoV3, batch_contrast
from smalldata_vit.schedules import Constant


def written_out(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """2τ times eq. (1) for every query among the keys of the pass, and the mean; lengths do not matter."""
    losses = []
    for i in range(len(query)):
        score = [torch.exp(query[i] @ k / (query[i].norm() * k.norm()) / temperature) for k in key]
        losses.append(-torch.log(score[i] / sum(score)))
    return 2 * temperature * torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("images", [1, 2, 7])
def test_the_loss_and_its_gradient_are_the_paper_s_sum(images: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, images, 5, generator=generator, dtype=torch.float64).unbind(0)
    query = query.clone().requires_grad_()
    loss, expected = batch_contrast(query, key, temperature).loss, written_out(query, key, temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(one, query)[0] for one in (loss, expected)), atol=1e-10, rtol=1e-7)


def moco(**changed: Any) -> MoCoV3:
    torch.manual_seed(0)
    given = {"momentum": Constant(0.9), "temperature": 0.2, "hidden": 16, "projection": 8}
    return MoCoV3(TinyBackbone, FACTS, **(given | changed))


def test_each_view_predicts_the_key_of_the_other() -> None:
    method, given = moco(), batch(images=6)
    views = given.views[0].unbind(1)
    query = [method.predictor(method.student.projector(method.student.backbone(view))) for view in views]
    key = [method.teacher.network.projector(method.teacher.network.backbone(view)) for view in views]
    expected = written_out(query[0], key[1], 0.2) + written_out(query[1], key[0], 0.2)
    torch.testing.assert_close(method(given, START).total, expected)


def test_the_order_of_images_and_of_views_does_not_matter() -> None:
    method, given = moco(), batch(images=6)
    turned = replace(given, views=[given.views[0].flip(0, 1)])
    torch.testing.assert_close(method(turned, START).total, method(given, START).total)


def test_the_key_encoder_has_no_gradient_and_follows_by_its_momentum() -> None:
    method = moco()
    key, query = method.teacher.network.projector[0].weight, method.student.projector[0].weight
    start = key.clone()
    method(batch(images=6), START).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.predictor.parameters())
    with torch.no_grad():
        query.add_(1.0)
    method.after_step(START, {})
    torch.testing.assert_close(key.detach(), 0.9 * start + 0.1 * query.detach())


def test_frozen_parts_of_the_backbone_stay_where_they_are_and_nothing_else_does() -> None:
    method = moco(frozen=["patches"])
    still = {name for name, p in method.student.named_parameters() if not p.requires_grad}
    assert still == {"backbone.patches.weight", "backbone.patches.bias"}


def test_a_part_that_the_backbone_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(ValueError, match=r"names patch_embed, .*it has patches, mix"):
        moco(frozen=["patch_embed"])


def test_the_encoder_starts_the_same_whatever_the_heads_are() -> None:
    wide, narrow = moco(hidden=32), moco()
    assert torch.equal(wide.encoder.mix.weight, narrow.encoder.mix.weight)
