"""Medians, ratios, spreads, and what counts as worse."""

import json
from itertools import cycle
from pathlib import Path

import pytest

from smalldata_vit.bench.environment import KEPT, settings
from smalldata_vit.bench.harness import Contender, Row, Table, Turn, compared, spread, timed
from smalldata_vit.bench.record import fallen, keep, shown


def scripted(name: str, *seconds: float) -> Contender:
    """A contender whose turns of one image take these seconds, again and again."""
    turns = cycle(seconds)
    return Contender(name, lambda: Turn(1, next(turns)))


def test_rates_are_medians_of_the_rounds_without_the_first_turn() -> None:
    table = compared("t", [scripted("a", 99, 1, 2, 4)], rounds=3)
    assert table.rows[0].rate == 0.5


def test_ratios_are_taken_round_by_round_so_that_a_slow_machine_does_not_move_them() -> None:
    slow_at_times = (1, 1, 5, 20)
    halves = tuple(s / 2 for s in slow_at_times)
    table = compared("t", [scripted("a", *slow_at_times), scripted("b", *halves)], rounds=3)
    assert (table.rows[1].ratio, table.rows[1].ratio_spread) == (2, 0)


def test_every_round_begins_with_another_contender() -> None:
    order: list[str] = []

    def noted(name: str) -> Contender:
        return Contender(name, lambda: order.append(name) or Turn(1, 1))  # type: ignore[func-returns-value]

    compared("t", [noted("a"), noted("b")], rounds=2)
    assert "".join(order) == "ab" + "ab" + "ba"


def test_the_spread_is_half_the_interquartile_range_over_the_median() -> None:
    assert spread([1, 2, 3, 4, 5]) == pytest.approx((4 - 2) / 2 / 3)


def test_one_round_has_no_spread() -> None:
    assert spread([3.0]) == 0


def test_work_is_repeated_until_it_has_lasted_and_every_time_counts() -> None:
    done: list[int] = []
    turn = timed(lambda: done.append(sum(range(20_000))), units=3, least_seconds=0.02)()
    assert turn.images == 3 * len(done)
    assert turn.seconds >= 0.02


def file_with(folder: Path, name: str, ratio: float, ratio_spread: float) -> Path:
    file = folder / f"{name}.json"
    row = Row("ours", 10.0, 0.0, ratio, ratio_spread)
    keep([Table("step", "images/s", "CPU seconds", 3, [row])], "the command", file)
    return file


@pytest.mark.parametrize(("after", "worse"), [(1.95, False), (1.75, False), (1.69, True), (2.4, False)])
def test_a_ratio_is_worse_when_it_falls_by_more_than_both_spreads(tmp_path: Path, after: float, worse: bool) -> None:
    before = file_with(tmp_path, "before", 2.0, 0.1)
    assert fallen(before, file_with(tmp_path, "after", after, 0.05))[1] is worse


def test_files_of_different_benchmarks_are_not_compared(tmp_path: Path) -> None:
    before = file_with(tmp_path, "before", 2.0, 0.1)
    other = tmp_path / "other.json"
    keep([Table("views", "images/s", "CPU seconds", 3, [Row("ours", 1, 0, 1, 0)])], "the command", other)
    with pytest.raises(ValueError, match="no row in common"):
        fallen(before, other)


def test_a_file_says_which_command_and_which_machine_made_it(tmp_path: Path) -> None:
    data = json.loads(file_with(tmp_path, "one", 1.0, 0.0).read_text())
    assert data["command"] == "the command"
    assert {"cpu", "cores", "bf16_instructions", "versions", "commit", "malloc"} <= set(data["machine"])


def test_a_table_shows_rate_ratio_spread_and_note() -> None:
    text = shown(
        Table("step", "images/s", "CPU seconds", 3, [Row("ours", 38.6, 0.01, 2.7, 0.03, "bf16", {"MFU": 0.2})])
    )
    for part in ("38.60 images/s", "2.70x", "3%", "bf16", "MFU 0.2", "median of 3 rounds"):
        assert part in text


def test_what_somebody_chose_for_malloc_stays() -> None:
    chosen = {"MALLOC_TRIM_THRESHOLD_": "1"}
    missing = settings(one_thread=True, present=chosen)
    assert set(KEPT) - set(missing) == {"MALLOC_TRIM_THRESHOLD_"}
    assert missing["OMP_NUM_THREADS"] == "1"


def test_two_contenders_of_one_name_are_refused() -> None:
    one = Contender("a peer", lambda: Turn(1, 1.0), warms_up=False)
    with pytest.raises(ValueError, match="two contenders are called a peer"):
        compared("views", [one, one], rounds=1)
