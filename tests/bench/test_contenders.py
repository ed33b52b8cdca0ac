"""What is timed does what it says."""

import numpy as np
import pytest
import torch

from smalldata_vit.bench import recipes
from smalldata_vit.bench.data import CASES, MEAN, STD, built
from smalldata_vit.bench.one_layer import NoDrawn
from smalldata_vit.bench.pictures import jpegs, photograph, photographs
from smalldata_vit.bench.plain import PROTOTYPES, PlainDINO, made_views
from smalldata_vit.bench.step import PreparedViews
from smalldata_vit.composition import option
from smalldata_vit.methods.dino import cross_view_entropy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
@pytest.mark.parametrize("one", [recipes.pillow, recipes.tensors])
def test_the_others_make_as_many_views_of_the_same_sides_as_ours(case, one) -> None:
    picture = photograph(0, case.height, case.width)
    given = torch.from_numpy(picture).permute(2, 0, 1)
    shown = recipes.transforms.ToPILImage()(picture) if one is recipes.pillow else given
    groups = option("views", case.views)["groups"]
    theirs = recipes.crops(groups, case.image_size, lambda g, view, side: one(g, view, side, MEAN, STD))
    views = built(case)
    sizes = torch.tensor([case.height]), torch.tensor([case.width])
    ours = views(given[None], views.draw(0, 0, *sizes))[0]
    assert [view(shown).shape for view in theirs] == [view.shape for group in ours for view in group[0]]


def test_pictures_differ_from_each_other_and_a_jpeg_of_one_is_smaller_than_its_pixels() -> None:
    first, second = photographs(2, 100, 140)
    assert first.shape == (100, 140, 3)
    assert np.abs(first.astype(int) - second).mean() > 10
    assert len(jpegs(1, 100, 140)[0]) < first.nbytes / 2


def test_the_plain_loop_minimises_what_ours_does() -> None:
    torch.manual_seed(0)
    dino = PlainDINO(bf16=False, fused_attention=True, device=torch.device("cpu"), width=24, depth=1)
    logits, taught = torch.randn(6, 4, PROTOTYPES), torch.randn(2, 4, PROTOTYPES)
    target = torch.softmax(taught / 0.04, dim=-1)
    expected = cross_view_entropy(target, logits / 0.1)
    torch.testing.assert_close(dino.loss(logits.flatten(0, 1), taught.flatten(0, 1), 2, 6), expected)


def test_a_step_of_the_plain_loop_moves_student_and_teacher() -> None:
    torch.manual_seed(0)
    dino = PlainDINO(bf16=False, fused_attention=True, device=torch.device("cpu"), width=24, depth=1)
    before = [p.clone() for p in (*dino.student.parameters(), *dino.teacher.parameters())]
    dino.step(*made_views(2, 32, 2, 2, torch.device("cpu")))
    after = [*dino.student.parameters(), *dino.teacher.parameters()]
    assert not any(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_prepared_views_are_made_once_for_each_number_of_pictures() -> None:
    made: list[int] = []

    class Counted:
        def compile(self) -> None: ...

        def path(self, device: torch.device) -> str:
            return ""

        def draw(self, seed: int, step: int, heights: torch.Tensor, widths: torch.Tensor) -> NoDrawn:
            return NoDrawn()

        def __call__(self, pictures: torch.Tensor, drawn: object) -> tuple[list, list, list]:
            made.append(len(pictures))
            return [], [], []

    views = PreparedViews(Counted())
    for count in (4, 4, 2, 4):
        views(torch.zeros(count, 3, 2, 2, dtype=torch.uint8), NoDrawn())
    assert made == [4, 2]


def test_prepared_views_are_drawn_once_so_that_drawing_is_no_part_of_a_timed_step() -> None:
    drawn: list[int] = []

    class Drawing:
        def compile(self) -> None: ...

        def path(self, device: torch.device) -> str:
            return ""

        def draw(self, seed: int, step: int, heights: torch.Tensor, widths: torch.Tensor) -> NoDrawn:
            drawn.append(len(heights))
            return NoDrawn()

        def __call__(self, pictures: torch.Tensor, drawn: object) -> tuple[list, list, list]:
            return [], [], []

    views = PreparedViews(Drawing())
    for step, count in enumerate((4, 4, 2, 4)):
        views.draw(0, step, torch.ones(count), torch.ones(count))
    assert drawn == [4, 2]
