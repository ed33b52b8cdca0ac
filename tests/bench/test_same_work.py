"""A ratio is shown only between contenders that do the same, and a foreign loop is timed between its steps."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from smalldata_vit.bench import loops
from smalldata_vit.bench.harness import Contender, Turn
from smalldata_vit.bench.loops import Batches, loop_contender, looped
from smalldata_vit.bench.same_work import GFLOP, MILLIONS, differences, facts, refuse_differences


def doing(name: str, **numbers: float) -> Contender:
    return Contender(name, lambda: Turn(1, 1.0), facts=numbers)


def test_facts_are_the_weights_that_train_and_the_flop_of_an_image() -> None:
    network = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 30, bias=False).requires_grad_(False))
    found = facts(lambda: network(torch.zeros(4, 10)), network.parameters(), images=4)
    assert found == pytest.approx({MILLIONS: 200e-6, GFLOP: 2 * (200 + 600) / 1e9})


@pytest.mark.parametrize("other", [{MILLIONS: 5.5, GFLOP: 10.0}, {MILLIONS: 5.9, GFLOP: 5.0}])
def test_a_contender_with_another_network_or_other_work_is_refused(other: dict[str, float]) -> None:
    first = doing("plain", **{MILLIONS: 5.9, GFLOP: 10.0})
    with pytest.raises(ValueError, match=r"step: theirs has .* plain .* says nothing"):
        refuse_differences("step", [first, doing("theirs", **other)])


def test_a_last_block_for_the_class_token_alone_is_the_same_work() -> None:
    whole, short = {MILLIONS: 5.9, GFLOP: 10.0}, {MILLIONS: 5.9, GFLOP: 9.2}
    assert differences([doing("plain", **whole), doing("ours", **short)]) == []


def test_work_that_cannot_be_compared_as_a_number_is_refused() -> None:
    first = doing("plain", **{MILLIONS: 5.9, GFLOP: 10.0})
    with pytest.raises(ValueError, match="theirs"):
        refuse_differences("step", [first, doing("theirs", **{MILLIONS: 5.9, GFLOP: float("nan")})])


def test_a_contender_that_says_nothing_is_compared_with_nobody() -> None:
    assert differences([doing("a peer of old"), doing("plain", **{MILLIONS: 5.9, GFLOP: 10.0})]) == []


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves."""
    now = [0.0]
    monkeypatch.setattr(loops, "clock", lambda wall=False: ((lambda: now[0]), "a clock of the test"))
    return now


def test_what_frames_an_epoch_and_its_first_step_are_not_in_a_turn(hours: list[float]) -> None:
    def loop(batches: Batches) -> None:
        hours[0] += 1000
        for number, batch in enumerate(batches):
            assert batch == "batch"
            hours[0] += 100 if number == 0 else 1
        hours[0] += 1000

    assert looped(loop, "batch", images=8, steps=5)() == Turn(40, 5.0)


def test_a_loop_that_stops_early_is_no_turn() -> None:
    def loop(batches: Batches) -> None:
        next(iter(batches))

    with pytest.raises(RuntimeError, match="asked for 1 batches"):
        looped(loop, None, images=1, steps=2)()


def test_what_a_loop_prints_is_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    def loop(batches: Batches) -> None:
        print(f"step of {sum(1 for _ in batches)}")

    looped(loop, None, images=1, steps=2)()
    assert capsys.readouterr().out == ""


def test_a_loop_is_counted_over_one_step_and_is_a_reference() -> None:
    network = nn.Linear(10, 20, bias=False)

    def loop(batches: Iterator[torch.Tensor]) -> None:
        for batch in batches:
            network(batch)

    made = loop_contender("theirs", loop, torch.zeros(4, 10), network.parameters(), images=4, steps=3)
    assert (made.reference, made.facts[GFLOP]) == (True, pytest.approx(400e-9))
