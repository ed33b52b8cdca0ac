import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from smalldata_vit.data.ahead import Ahead
from smalldata_vit.data.course import Course, cut, steps_per_epoch
from smalldata_vit.data.module import ImageData
from smalldata_vit.data.passes import Step


@dataclass
class Choices:
    value: torch.Tensor

    def take(self, places: slice) -> "Choices":
        return Choices(self.value[places])

    def to(self, device: torch.device) -> "Choices":
        return self


class NumberViews:
    def compile(self) -> None:
        raise AssertionError("nobody asked for it")

    def path(self, device: torch.device) -> str:
        return "numbers"

    def draw(self, seed: int, step: int, heights: torch.Tensor, widths: torch.Tensor) -> Choices:
        return Choices(torch.arange(len(heights)) + 1000 * step)

    def __call__(self, pictures: object, drawn: object) -> tuple[list, list, list]:
        return [], [], []


class NoImages:
    device = torch.device("cpu")

    def __init__(self, number: int) -> None:
        self.labels = self.heights = self.widths = torch.full((number,), 8)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def data(course: Course) -> ImageData:
    return ImageData(NumberViews(), NoImages(course.images), course, seed=0, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("images", "batch", "drop", "passes", "expected"),
    [(50000, 256, True, 3, 585), (73257, 256, True, 3, 858), (90000, 256, True, 3, 1054), (100000, 256, True, 3, 1171),
     (50000, 512, True, 1, 97), (73257, 512, True, 1, 143), (90000, 512, True, 1, 175), (100000, 512, True, 1, 195),
     (50000, 128, True, 1, 390), (2040, 256, False, 1, 8), (37, 37, True, 1, 1)],
)  # fmt: skip
def test_epochs_have_the_published_number_of_steps(
    images: int, batch: int, drop: bool, passes: int, expected: int
) -> None:
    assert steps_per_epoch(images, batch, drop, passes) == expected


def test_an_epoch_shows_each_image_once_and_three_passes_show_it_three_times() -> None:
    once = Course(100, 10, None, 30)
    shown = np.concatenate([once.order(0, step) for step in range(10)])
    assert sorted(shown) == list(range(100))
    thrice = Course(100, 30, None, 30, passes_per_epoch=3)
    shown = np.concatenate([thrice.order(0, step) for step in range(10)])
    assert np.array_equal(np.bincount(shown), np.full(100, 3))


def test_a_ragged_last_batch_is_shown_when_it_is_not_dropped() -> None:
    course = Course(25, 10, None, 6, drop_last=False)
    assert [len(course.order(0, step)) for step in range(6)] == [10, 10, 5, 10, 10, 5]


@pytest.mark.parametrize(("images", "pass_size", "ranks"), [(64, 16, 1), (64, 16, 2), (60, 16, 3), (64, None, 3)])
def test_ranks_share_the_passes_out_and_never_change_them(images: int, pass_size: int | None, ranks: int) -> None:
    shared = [p for rank in range(ranks) for p in cut(images, pass_size, ranks, rank)]
    assert [i for p in shared for i in range(p.start, p.stop)] == list(range(images))
    if pass_size is not None:
        assert shared == cut(images, pass_size, 1, 0)


def test_a_limit_on_a_forward_cuts_a_share_further_and_keeps_seed_and_total() -> None:
    step = data(Course(100, 50, None, 4, max_batch=20)).step(0)
    assert [(p.place, len(p.index)) for p in step.passes] == [(0, 20), (20, 20), (40, 10)]
    assert len({p.seed for p in step.passes}) == 1
    assert {p.total for p in step.passes} == {50}
    assert sum(p.weight for p in step.passes) == pytest.approx(1.0)


def test_a_rank_without_a_pass_of_its_own_makes_one_of_weight_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalldata_vit.distributed.world_size", lambda: 3)
    monkeypatch.setattr("smalldata_vit.distributed.rank", lambda: 0)
    step = data(Course(20, 20, 10, 4)).step(0)
    assert [p.weight for p in step.passes] == [0.0]
    assert len(step.passes[0].index) == 10


def test_the_weights_of_a_step_s_passes_sum_to_one_even_when_the_last_is_ragged() -> None:
    step = data(Course(100, 50, 16, 4)).step(0)
    assert [len(p.index) for p in step.passes] == [16, 16, 16, 2]
    assert sum(p.weight for p in step.passes) == pytest.approx(1.0)


def test_a_step_depends_on_its_number_alone() -> None:
    course = Course(100, 20, 10, 50)
    first, again = data(course).step(7), data(course).step(7)
    for one, two in zip(first.passes, again.passes, strict=True):
        assert torch.equal(one.index, two.index)
        assert one.seed == two.seed
        assert torch.equal(one.drawn.value, two.drawn.value)  # type: ignore[attr-defined]
    assert len({p.seed for n in range(5) for p in data(course).step(n).passes}) == 10


def test_items_come_in_order_and_the_thread_ends_when_the_loop_is_left() -> None:
    made: list[int] = []

    def make(number: int) -> Step:
        made.append(number)
        return Step(number, 0, [])

    before = threading.active_count()
    groups = iter(Ahead(make, lambda: 3, 1000, ahead=4, at_once=2))
    assert [step.number for _ in range(3) for step in next(groups)] == [3, 4, 5, 6, 7, 8]
    groups.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(made) < 20


def test_an_error_while_drawing_ahead_reaches_the_loop() -> None:
    def make(number: int) -> Step:
        raise RuntimeError(f"no step {number}")

    with pytest.raises(RuntimeError, match="no step 0"):
        list(next(iter(Ahead(make, lambda: 0, 10, ahead=2, at_once=4))))


def test_the_last_group_is_what_is_left_and_nothing_is_taken_before_it_is_asked_for() -> None:
    groups = list(Ahead(lambda number: Step(number, 0, []), lambda: 0, 7, ahead=2, at_once=3))
    assert [group.count for group in groups] == [3, 3, 1]


def test_all_groups_can_be_asked_for_before_the_first_is_used() -> None:
    """Lightning fetches a batch ahead, so the iterator ends before the last group is used."""
    groups = list(Ahead(lambda number: Step(number, 0, []), lambda: 0, 7, ahead=2, at_once=3))
    assert [step.number for group in groups for step in group] == [0, 1, 2, 3, 4, 5, 6]


def test_leaving_the_last_group_early_ends_the_thread() -> None:
    before = threading.active_count()
    (group,) = Ahead(lambda number: Step(number, 0, []), lambda: 0, 50, ahead=2, at_once=50)
    for step in group:
        if step.number == 3:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_images_that_lie_beside_the_network_are_not_fetched_ahead() -> None:
    course, images = Course(20, 10, None, 4), NoImages(20)
    fetched = data(course).step(0).passes[0]
    assert torch.equal(fetched.pictures[:, 0, 0, 0].long(), fetched.index)  # type: ignore[index]
    images.device = torch.device("meta")
    beside = ImageData(NumberViews(), images, course, seed=0, device=torch.device("cpu"))
    assert beside.step(0).passes[0].pictures is None
