"""What guidance cost, from the rows of a metrics file."""

from smalldata_vit.guided_time import for_metrics, guided_time, in_words
from smalldata_vit.metrics import Row


def rows(*written: tuple[int, float, float]) -> list[Row]:
    """Of (step, share of guided steps since the last, seconds a step)."""
    made = []
    for step, share, seconds in written:
        made += [Row(step, 0.0, 0.0, "train/loss", 1.0), Row(step, 0.0, 0.0, "train/guidance_on", share)]
        made += [Row(step, 0.0, 0.0, "train/seconds_per_step", seconds), Row(step, 0.0, 0.0, "val/accuracy", 0.5)]
    return made


def test_steps_of_both_kinds_are_counted_and_seconds_are_medians_without_warming_up_and_the_end() -> None:
    warm = [(10, 1.0, 9.0), (15, 1.0, 3.0), (20, 1.0, 4.0), (30, 1.0, 3.0)]
    found = guided_time(rows(*warm, (40, 0.3, 2.0), (50, 0, 1.0), (55, 0, 1.0)), 11)
    assert found == {
        "steps_on": 33,
        "seconds_per_step_on": 3.0,
        "steps_off": 22,
        "seconds_per_step_off": 1.0,
        "seconds_per_epoch_guided": 33.0,
        "seconds_per_epoch_unguided": 11.0,
        "seconds_spent": 66.0,
        "seconds_saved": 44.0,
    }


def test_guidance_that_never_ends_has_no_price_and_says_so() -> None:
    found = guided_time(rows((10, 1, 3.0), (20, 1, 3.0)), 10)
    assert found is not None
    assert (found["steps_off"], found["seconds_per_step_off"], found["seconds_saved"]) == (0, None, None)
    assert "cannot be told" in in_words(found)
    assert list(for_metrics(found).values()) == [30.0]


def test_a_stage_that_nothing_guides_has_no_record() -> None:
    assert guided_time([Row(1, 0.0, 0.0, "train/seconds_per_step", 1.0)], 10) is None


def test_the_log_has_one_line_with_both_kinds() -> None:
    found = guided_time(rows((10, 1, 9.0), (20, 1, 3.0), (30, 0, 1.0)), 10)
    assert found is not None
    said = "20 steps on of 3 s each, 10 steps off of 1 s each; it cost 40 s, and its end saved 20 s"
    assert in_words(found) == f"guidance: {said}"


def test_a_kind_of_step_that_was_only_seen_warming_up_has_no_seconds() -> None:
    found = guided_time(rows((1, 1, 9.0), (2, 0, 1.0)), 10)
    assert found is not None
    assert (found["steps_on"], found["seconds_per_step_on"], found["seconds_per_step_off"]) == (1, None, 1.0)
