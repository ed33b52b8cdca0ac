import pytest
import torch
from torch import nn

from smalldata_vit.parts.projector import Projector
from smalldata_vit.parts.prototypes import Prototypes
from smalldata_vit.parts.teacher import Teacher


def test_the_teacher_moves_a_share_of_the_way_and_its_buffers_stay_its_own() -> None:
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = Teacher(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), student)
    start = [p.clone() for p in student.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(3.0).add_(1.0)
    student(torch.randn(8, 3))
    teacher.update(student, 0.75)
    for own, old, new in zip(teacher.network.parameters(), start, student.parameters(), strict=True):
        torch.testing.assert_close(own, (0.75 * old + 0.25 * new).detach())
    norm = teacher.network[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.equal(norm.running_mean, torch.zeros(4))


def test_a_momentum_of_one_leaves_the_teacher_where_it_is() -> None:
    student = nn.Linear(3, 4)
    teacher = Teacher(nn.Linear(3, 4), student)
    start = teacher.network.weight.clone()
    with torch.no_grad():
        student.weight.add_(1.0)
    teacher.update(student, 1.0)
    assert torch.equal(teacher.network.weight, start)


def test_prototypes_give_cosines_whatever_the_lengths() -> None:
    torch.manual_seed(0)
    layer, projection = Prototypes(6, 5), torch.randn(3, 6)
    with torch.no_grad():
        layer.weight_v.mul_(40.0)
    for b in range(3):
        for k in range(5):
            direction = layer.weight_v[k]
            cosine = (projection[b] @ direction) / (projection[b].norm() * direction.norm())
            torch.testing.assert_close(layer(projection * 9)[b, k], cosine)
    assert not layer.weight_g.requires_grad


def test_lengths_of_prototypes_scale_the_logits_when_they_are_learnt() -> None:
    layer, projection = Prototypes(6, 5, train_norms=True), torch.randn(3, 6)
    before = layer(projection)
    with torch.no_grad():
        layer.weight_g.fill_(2.5)
    torch.testing.assert_close(layer(projection), 2.5 * before)
    assert layer.weight_g.requires_grad


def test_a_projector_of_one_layer_is_a_linear_map_and_of_none_is_refused() -> None:
    assert [type(part) for part in Projector(4, 9, 3, layers=1)] == [nn.Linear]
    with pytest.raises(ValueError, match="at least 1"):
        Projector(4, 9, 3, layers=0)


@pytest.mark.parametrize(("init", "std"), [("truncated_normal", 0.02), ("width_aware", 256**-0.5)])
def test_the_start_of_the_linear_weights_has_the_stated_spread(init: str, std: float) -> None:
    torch.manual_seed(0)
    first = Projector(256, 512, 64, init=init, batch_norm=True)[0]  # type: ignore[arg-type]
    assert isinstance(first, nn.Linear)
    assert float(first.weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert torch.equal(first.bias, torch.zeros(512))


def test_batch_norm_stands_before_every_gelu() -> None:
    kinds = [type(part) for part in Projector(4, 9, 3, batch_norm=True)]
    block = [nn.Linear, nn.BatchNorm1d, nn.GELU]
    assert kinds == [*block, *block, nn.Linear]
