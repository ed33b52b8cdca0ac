"""What is said of goals, and that every goal is about a row that some table has."""

import pytest

from smalldata_vit.bench import beside, host, memory, methods
from smalldata_vit.bench.__main__ import parser
from smalldata_vit.bench.goals import GOALS, PLAIN, Goal, judged
from smalldata_vit.bench.harness import SHARE, TIMES, Contender, Row, Table, Turn, compared

LEAST = Goal("C6", "step", "ours", 3.2)
MOST = Goal("C8", "memory", "ours", 0.45, most=True)


def told(title: str, goals: list[Goal], **more: float) -> str:
    rows = [Row(PLAIN, 1, 0, 1, 0), Row("ours", 1, 0, 1, 0, "a note", dict(more))]
    return judged(Table(title, "", "", 1, rows), goals).rows[1].note


@pytest.mark.parametrize(("ratio", "verdict"), [(3.2, "met"), (3.19, "MISSED")])
def test_a_rate_has_to_reach_its_goal(ratio: float, verdict: str) -> None:
    said = told("step, IDMM", [LEAST], **{f"{TIMES}theirs": ratio})
    assert said == f"a note; C6: {ratio:.2f} times theirs, goal at least 3.20: {verdict}"


@pytest.mark.parametrize(("share", "verdict"), [(0.45, "met"), (0.46, "MISSED")])
def test_a_share_may_not_exceed_its_goal(share: float, verdict: str) -> None:
    assert told("memory", [MOST], **{f"{SHARE}theirs": share}).endswith(verdict)


def test_a_goal_against_authors_is_not_judged_by_the_plain_loop() -> None:
    assert told("step", [LEAST], **{f"{TIMES}{PLAIN}": 9.0}) == "a note"


def test_a_goal_against_the_plain_loop_is_not_judged_by_authors() -> None:
    goal = Goal("C7", "host", "ours", 0.85, most=True, plain=True)
    said = told("host", [goal], **{f"{SHARE}{PLAIN}": 0.8, f"{SHARE}theirs": 0.1})
    assert said == f"a note; C7: 0.80 of {PLAIN}, goal at most 0.85: met"


def test_a_goal_of_another_table_says_nothing() -> None:
    assert told("memory", [LEAST], **{f"{TIMES}theirs": 9.0}) == "a note"


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.name} {goal.table} {goal.row}")
def test_a_goal_is_about_a_table_that_exists(goal: Goal) -> None:
    titles = [*(case.title for case in methods.CASES.values()), host.TITLE, memory.title(64)]
    assert [title for title in titles if title.startswith(goal.table)]


def test_goals_name_rows_as_the_memory_table_does() -> None:
    assert {goal.row for goal in GOALS} | {PLAIN} <= set(memory.CONTENDERS)


def test_every_ratio_to_a_reference_is_the_median_of_the_rounds() -> None:
    seconds = iter([1, 2, 9, 4, 1, 2])
    reference = Contender("theirs", lambda: Turn(1, 2 * next(seconds)), warms_up=False, reference=True)
    own = Contender("ours", lambda: Turn(1, next(seconds)), warms_up=False)
    first = Contender("plain", lambda: Turn(1, 1.0), warms_up=False)
    table = compared("t", [first, reference, own], rounds=3)
    # Rounds begin with another each: (theirs 1 s, ours 2 s), (theirs 9, ours 4), (ours 1, theirs 2).
    assert [row.more for row in table.rows][1:] == [{}, {"x theirs": 4.0}]


def test_host_time_is_shown_as_a_share_of_the_references() -> None:
    row = host.shares(Row("ours", 50.0, 0, 1, 0, "", {"x theirs": 4.0, "M weights": 1.5}))
    assert row.more == {"ms a step": 20.0, "M weights": 1.5, "share of theirs": 0.25}


def test_the_command_line_offers_every_part_of_the_peers_tables() -> None:
    assert tuple(parser().parse_args(["peers", "folder", "--part", *beside.PARTS]).part) == beside.PARTS
