import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from method_stand_ins import FACTS, LATER, START, TinyBackbone, batch, rows
from torch import Tensor, nn

from smalldata_vit.contracts import Loss
from smalldata_vit.methods.dino import DINO, cross_view_entropy
from smalldata_vit.schedules import Constant, Cosine, LinearEpochs, Progress


def dino(backbone: Callable[..., nn.Module] = TinyBackbone, **changed: Any) -> DINO:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "momentum": Constant(0.9),
        "teacher_temperature": Constant(0.04),
        "prototypes": 16,
        "hidden": 24,
        "bottleneck": 8,
        "freeze_prototypes_epochs": 1,
    }
    return DINO(backbone, FACTS, **(arguments | changed))


def step(method: DINO, optimizer: torch.optim.Optimizer, progress: Progress, seed: int = 0) -> Loss:
    loss = method(batch(views=(2, 3), seed=seed), progress)
    optimizer.zero_grad()
    loss.total.backward()
    method.before_step(progress)
    optimizer.step()
    method.after_step(progress, {name: seen.value for name, seen in loss.seen.items()})
    return loss


def double_sum(teacher: Tensor, student: Tensor, centre: Tensor, hot: float, cold: float) -> Tensor:
    """Eq. (3) with the temperatures and the centre of eq. (1) and (4), one pair and one image after the other."""
    terms = []
    for t in range(len(teacher)):
        for s in range(len(student)):
            if s == t:
                continue
            for b in range(teacher.shape[1]):
                p_teacher = torch.exp((teacher[t, b] - centre) / cold)
                p_teacher = p_teacher / p_teacher.sum()
                p_student = torch.exp(student[s, b] / hot)
                p_student = p_student / p_student.sum()
                terms.append(-(p_teacher * torch.log(p_student)).sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize(("teachers", "students"), [(1, 2), (2, 2), (2, 3), (2, 10), (3, 4), (1, 5)])
@pytest.mark.parametrize("prototypes", [2, 7, 64])
def test_the_loss_and_its_gradient_are_the_papers_double_sum(
    images: int, teachers: int, students: int, prototypes: int
) -> None:
    torch.manual_seed(images + 10 * students + prototypes)
    teacher = torch.randn(teachers, images, prototypes, dtype=torch.float64)
    student = torch.randn(students, images, prototypes, dtype=torch.float64, requires_grad=True)
    centre = 0.1 * torch.randn(prototypes, dtype=torch.float64)
    expected = double_sum(teacher, student, centre, hot=0.1, cold=0.2)
    (gradient,) = torch.autograd.grad(expected, student)
    single = student.detach().float().requires_grad_()
    target = F.softmax((teacher - centre) / 0.2, dim=-1).float()
    loss = cross_view_entropy(target, single / 0.1)
    (single_gradient,) = torch.autograd.grad(loss, single)
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(single_gradient.double(), gradient, rtol=1e-4, atol=1e-5)


def test_two_global_and_eight_local_views_make_eighteen_pairs() -> None:
    log_two = math.log(2.0)
    target = torch.zeros(2, 1, 2)
    target[..., 0] = 1.0
    loss = cross_view_entropy(target, torch.zeros(10, 1, 2))
    assert float(loss) == pytest.approx(log_two)
    seen_by_one = torch.zeros(10, 1, 2)
    seen_by_one[9, 0, 1] = 1000.0  # one local view is certain and wrong: it stands in 2 of the pairs
    assert float(cross_view_entropy(target, seen_by_one)) == pytest.approx((2 * 1000.0 + 16 * log_two) / 18)
    seen_by_one = torch.zeros(10, 1, 2)
    seen_by_one[0, 0, 1] = 1000.0  # a global view is compared with the other one only
    assert float(cross_view_entropy(target, seen_by_one)) == pytest.approx((1 * 1000.0 + 17 * log_two) / 18)


def test_outputs_that_say_nothing_cost_the_logarithm_of_the_number_of_prototypes() -> None:
    target = torch.full((2, 3, 1024), 1 / 1024)
    assert float(cross_view_entropy(target, torch.zeros(10, 3, 1024))) == pytest.approx(6.931, abs=5e-4)


def test_an_untrained_network_starts_below_the_uniform_loss() -> None:
    loss = dino(prototypes=1024, hidden=512, bottleneck=256)(batch(images=16, views=(2, 8)), START)
    assert 5.0 < loss.total.item() < 6.931


def test_one_view_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two views"):
        dino()(batch(views=(1,)), START)


def test_the_method_joins_its_networks_to_the_written_out_loss() -> None:
    method = dino(student_temperature=0.2, teacher_temperature=Constant(0.5)).eval()
    method.centre.copy_(torch.linspace(-0.1, 0.1, 16))
    given = batch(images=3, views=(2, 3))

    def logits(branch: nn.Module, group: int, view: int) -> Tensor:
        features = branch.backbone(given.views[group][:, view])  # type: ignore[operator]
        return branch.prototypes(branch.projector(features))  # type: ignore[operator]

    places = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    teacher = torch.stack([logits(method.teacher.network, *p) for p in places[:2]])
    student = torch.stack([logits(method.student, *p) for p in places])
    expected = double_sum(teacher, student, method.centre, hot=0.2, cold=0.5)
    torch.testing.assert_close(method(given, START).total, expected)


def test_the_order_of_images_and_of_local_views_changes_nothing() -> None:
    method, given = dino(batch_norm=True), batch(images=5, views=(2, 3))
    other = replace(given, views=[given.views[0].flip(0), given.views[1].flip(0).flip(1)])
    torch.testing.assert_close(method(given, START).total, method(other, START).total)


def test_no_local_views_and_a_batch_of_two_train() -> None:
    for norm in (False, True):
        loss = dino(batch_norm=norm)(batch(images=2, views=(2,)), START)
        loss.total.backward()
        assert loss.total.isfinite()


def test_the_teacher_starts_as_the_student_and_has_no_gradient() -> None:
    method = dino()
    for (name, own), theirs in zip(method.teacher.network.named_parameters(), method.student.parameters(), strict=True):
        assert torch.equal(own, theirs), name
        assert not own.requires_grad, name
    method(batch(), START).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_follows_the_student_at_the_momentum_of_the_step() -> None:
    method = dino(momentum=Cosine(0.996, 1.0))
    before = {n: p.clone() for n, p in method.teacher.network.named_parameters()}
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    mean = torch.zeros(16)
    method.after_step(Progress(9700, 19400, 97), {"centre": mean, "mean_target": mean})
    for name, parameter in method.teacher.network.named_parameters():
        torch.testing.assert_close(parameter, before[name] + (1 - 0.998))


def test_the_centre_follows_the_batch_mean_over_both_global_views() -> None:
    method = dino().eval()
    given = batch(views=(2, 3))
    loss = method(given, START)
    images = [method.teacher.network(given.views[:1]).logits[v, b] for v in range(2) for b in range(4)]
    method.after_step(START, {name: seen.value for name, seen in loss.seen.items()})
    torch.testing.assert_close(method.centre, 0.1 * torch.stack(images).mean(0).detach())
    assert all(seen.combine == "mean" for seen in loss.seen.values())


def test_passes_weighted_by_their_images_give_the_gradient_and_the_centre_of_the_whole() -> None:
    method, whole = dino(), batch(images=5, views=(2, 3))

    method(whole, START).total.backward()
    gradient = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    first, second = (method(rows(whole, slice(*ends)), START) for ends in ((0, 3), (3, 5)))
    (first.total * 0.6 + second.total * 0.4).backward()
    for name, parameter in method.student.named_parameters(prefix="student"):
        torch.testing.assert_close(parameter.grad, gradient.get(name), rtol=1e-4, atol=1e-6)
    for name, seen in method(whole, START).seen.items():
        torch.testing.assert_close(0.6 * first.seen[name].value + 0.4 * second.seen[name].value, seen.value)


def test_the_prototypes_stay_at_their_start_during_the_frozen_epochs() -> None:
    method = dino(freeze_prototypes_epochs=1)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], weight_decay=0.1)
    start, projector = method.student.prototypes.weight_v.clone(), method.student.projector[0].weight.clone()  # type: ignore[operator]
    for number in range(2):  # an epoch of two steps
        step(method, optimizer, Progress(number, 20, 2))
    assert torch.equal(method.student.prototypes.weight_v, start)
    assert not torch.equal(method.student.projector[0].weight, projector)  # type: ignore[arg-type]
    step(method, optimizer, Progress(2, 20, 2))
    assert not torch.equal(method.student.prototypes.weight_v, start)


@pytest.mark.parametrize("norms", [False, True])
def test_every_trainable_parameter_moves_in_two_steps_and_the_lengths_only_when_asked(norms: bool) -> None:
    method = dino(freeze_prototypes_epochs=0, train_prototype_norms=norms, batch_norm=True)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    before = {name: p.clone() for name, p in method.student.named_parameters()}
    step(method, optimizer, START, seed=1)
    step(method, optimizer, LATER, seed=2)
    still = {name for name, p in method.student.named_parameters() if torch.equal(p, before[name])}
    # A bias in front of BatchNorm is taken away again; it has no gradient but rounding.
    assert still - {"projector.0.bias", "projector.3.bias"} == (set() if norms else {"prototypes.weight_g"})


@pytest.mark.parametrize(("width", "count"), [(192, 755_968), (384, 854_272)])
def test_the_published_head_has_the_published_number_of_parameters(width: int, count: int) -> None:
    class Wide(TinyBackbone):
        def __init__(self, drop_path_rate: float = 0.0) -> None:
            super().__init__(drop_path_rate)
            self.num_features = width

    student = dino(Wide, prototypes=1024, hidden=512, bottleneck=256).student
    head = [*student.projector.parameters(), *student.prototypes.parameters()]
    assert sum(p.numel() for p in head) == count


def test_the_teacher_drops_no_paths_unless_it_is_given_the_students_rate() -> None:
    assert dino().teacher.network.backbone.drop_path_rate == 0.0
    assert dino(teacher_drop_path_rate=None).teacher.network.backbone.drop_path_rate == 0.3
    assert dino(partial(TinyBackbone, drop_path_rate=0.2)).student.backbone.drop_path_rate == 0.2


def test_the_students_backbone_is_what_the_seed_makes_first() -> None:
    torch.manual_seed(0)
    expected = TinyBackbone()
    for name, value in dino().student.backbone.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def test_a_warmed_up_teacher_temperature_sharpens_less_as_it_rises() -> None:
    method = dino(teacher_temperature=LinearEpochs(0.04, 0.07, 10)).eval()
    entropies = [float(method(batch(), Progress(epoch, 100, 1)).stats["teacher_entropy"]) for epoch in (0, 5, 9, 50)]
    assert entropies[0] < entropies[1] < entropies[2] == entropies[3]


def test_batch_norm_in_the_head_couples_images_and_its_absence_does_not() -> None:
    assert dino(batch_norm=True).couples_images
    assert not dino().couples_images


def test_the_loss_is_float32_under_bf16_autocast_and_near_the_exact_one() -> None:
    method = dino().eval()
    exact = method(batch(), START)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method(batch(), START)
    for number in (*rounded.terms.values(), *rounded.stats.values(), *(s.value for s in rounded.seen.values())):
        assert number.dtype == torch.float32
    torch.testing.assert_close(rounded.total, exact.total, rtol=0.02, atol=0.02)
    assert cross_view_entropy(torch.full((2, 1, 4), 0.25), torch.zeros(2, 1, 4).bfloat16()).dtype == torch.float32


def test_the_encoder_is_the_teachers_backbone_and_both_can_be_asked_for() -> None:
    method = dino()
    assert method.encoder is method.teacher.network.backbone
    assert method.sources() == {
        "encoder": method.encoder,
        "teacher": method.encoder,
        "student": method.student.backbone,
    }
