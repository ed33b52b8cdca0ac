import pytest

from smalldata_vit.reports.comparison import Arms, beside_the_arms, markdown, paired, remarks, spread

ARMS: Arms = {
    "dino_probe": {"1": {"0": 0.80, "1": 0.82, "2": 0.78}, "all": {"0": 0.98, "1": 0.98, "2": 0.98}},
    "dino_finetuned": {"1": {"0": 0.70, "1": 0.72, "2": 0.68}, "all": {"0": 0.99, "1": 0.99, "2": 0.98}},
    "scratch_equal_steps": {"1": {"0": 0.60, "1": 0.66, "2": 0.60}, "all": {"0": 0.99, "1": 0.98, "2": 0.98}},
}


def test_mean_and_spread_are_those_of_the_seeds() -> None:
    mean, deviation, n = spread(ARMS["dino_probe"]["1"])
    assert (mean, deviation, n) == (pytest.approx(80.0), pytest.approx(2.0), 3)
    assert spread({"0": 0.5})[1] == 0.0


def test_a_difference_is_paired_by_seed() -> None:
    found = paired(ARMS, "dino_probe", "scratch_equal_steps", "1")
    assert found == (pytest.approx(18.0), pytest.approx(2 / 3**0.5))
    assert paired(ARMS, "dino_probe", "pixels", "1") is None


def test_the_table_has_a_cell_for_every_count_that_any_arm_has_and_a_dash_where_nothing_ran() -> None:
    table = markdown(ARMS)
    assert "| test accuracy, % | 1 | all |" in table
    assert "| DINO, linear probe | 80.0 ± 2.0 (3) | 98.0 ± 0.0 (3) |" in table
    assert "| SVM on raw pixels | – | – |" in table


def test_the_remarks_say_where_nothing_is_gained_and_where_fine_tuning_loses_its_probe() -> None:
    said = " ".join(remarks(ARMS))
    assert "Fine-tuning falls below its own probe by more than a standard error at: 1 (-10.0 ± 0.0)." in said
    assert "DINO, linear probe against from scratch, equal supervised steps" in said
    assert "ahead at 1 (+18.0 ± 1.2); no gain at all (-0.3 ± 0.3)" in said


def test_arms_of_one_seed_are_not_said_to_differ() -> None:
    alone = {arm: {"1": {"0": 0.5}} for arm in ("dino_probe", "dino_finetuned", "scratch_equal_steps")}
    assert remarks(alone) == [
        "Fine-tuning and its probe share fewer than two seeds: nothing can be said of their difference."
    ]


def test_what_no_job_trains_stands_beside_the_arms_with_its_interval() -> None:
    shown = beside_the_arms(ARMS)
    assert "80.00\u00a0±\u00a04.97" in shown
    assert "DINO, fine-tuned" not in shown
    assert beside_the_arms({"dino_finetuned": ARMS["dino_finetuned"]}) == ""


def test_the_picture_is_drawn(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("matplotlib")
    from smalldata_vit.reports.comparison_picture import draw

    draw(ARMS, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
