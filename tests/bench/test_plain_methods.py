"""The plain loops of IDMM and of guidance minimise what ours do, with networks of the same size."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from smalldata_vit.backbones.resnet_cifar import resnet_cifar
from smalldata_vit.bench import memory
from smalldata_vit.bench.methods import CASES
from smalldata_vit.bench.plain_guided import PlainGuided, SmallResNet, distance
from smalldata_vit.bench.plain_idmm import PlainIDMM
from smalldata_vit.parts import guidance_distance
from smalldata_vit.parts.instances import Targets, instance_entropy

CPU = torch.device("cpu")


def idmm() -> PlainIDMM:
    torch.manual_seed(0)
    return PlainIDMM(False, CPU, instances=7, side=32, width=24, depth=1)


def guided() -> PlainGuided:
    torch.manual_seed(0)
    return PlainGuided(False, CPU, classes=5, side=32, width=24)


def moved(before: list[Tensor], after: list[Tensor]) -> list[bool]:
    return [not torch.equal(one, two) for one, two in zip(before, after, strict=True)]


def test_what_stays_of_an_image_is_its_share() -> None:
    loop, images = idmm(), torch.arange(50.0)[:, None, None, None].expand(50, 3, 32, 32)
    mixed, other, share = loop.cut_and_mixed(images)
    kept = (mixed == images).float().mean((1, 2, 3))[other != torch.arange(50)]
    torch.testing.assert_close(kept, torch.full_like(kept, share))


def test_the_images_of_a_batch_are_not_changed_by_mixing() -> None:
    images = torch.randn(4, 3, 32, 32)
    before = images.clone()
    idmm().cut_and_mixed(images)
    assert torch.equal(images, before)


def test_the_plain_loop_of_idmm_minimises_what_ours_does(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, images, index = idmm(), torch.randn(6, 3, 32, 32), torch.tensor([4, 0, 6])
    loop.network.eval()
    mixed, other, share = loop.cut_and_mixed(images)
    monkeypatch.setattr(loop, "cut_and_mixed", lambda _: (mixed, other, share))
    own = index.repeat(2)
    features = loop.network.forward_head(loop.network.forward_features(mixed), pre_logits=True)
    targets = Targets(own, own[other], torch.tensor(share))
    expected = instance_entropy(features, loop.network.head, targets, 0.0, None)[0].mean()
    torch.testing.assert_close(loop.entropy(images, index), expected)


def test_a_step_of_the_plain_loop_of_idmm_moves_every_weight() -> None:
    loop = idmm()
    before = [weight.clone() for weight in loop.network.parameters()]
    loop.step([torch.randn(6, 3, 32, 32), torch.randn(12, 3, 32, 32)], torch.tensor([1, 2, 3]))
    assert all(moved(before, list(loop.network.parameters())))


def test_a_step_of_the_plain_guided_loop_moves_student_and_projections_and_not_the_guide() -> None:
    loop = guided()
    before = [weight.clone() for weight in (*loop.weights, *loop.guide.parameters())]
    loop.step(torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2]))
    changed = moved(before, [*loop.weights, *loop.guide.parameters()])
    assert (set(changed[: len(loop.weights)]), set(changed[len(loop.weights) :])) == ({True}, {False})


def test_the_plain_guide_is_as_large_as_ours() -> None:
    ours = resnet_cifar(depth=56, width=16, drop_path_rate=0.0)
    assert sum(p.numel() for p in SmallResNet().parameters()) == sum(p.numel() for p in ours.parameters())


@pytest.mark.parametrize(("own", "theirs"), [(14, 32), (14, 8), (8, 8)])
def test_the_plain_distance_of_maps_is_ours(own: int, theirs: int) -> None:
    a, b = torch.randn(2, 16, own, own), torch.randn(2, 16, theirs, theirs)
    torch.testing.assert_close(distance(a, b), guidance_distance.distance(a, b, "linear", "mean"))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_the_others_are_given_has_the_sizes_of_the_case(case) -> None:
    given = case.given(case.settings, CPU)
    images = given["views"] if "views" in given else [given["images"]]
    assert {tuple(one.shape) for one in images} == {(case.settings.batch, 3, case.settings.side, case.settings.side)}


ALLOCATES = """
import torch
from smalldata_vit.bench.harness import Contender, Turn

def contenders(table, given):
    def turn():
        torch.ones(given["batch"] * 2**18)
        return Turn(1, 1.0)
    return [Contender("theirs", turn, reference=True)] if table.startswith("memory") else []
"""


def test_the_memory_of_a_peer_is_what_its_turn_adds(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(ALLOCATES)
    assert memory.in_process("theirs", 64, tmp_path) == pytest.approx(64, abs=4)
