import pytest

from smalldata_vit.reports.comparison import Arms, markdown, paired, remarks, spread

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


def test_the_table_has_a_cell_for_every_count_and_a_dash_where_nothing_ran() -> None:
    table = markdown(ARMS)
    assert "| DINO, linear probe | 80.0 ± 2.0 (3) | – | – | – | 98.0 ± 0.0 (3) |" in table
    assert "| SVM on raw pixels | – | – | – | – | – |" in table


def test_the_remarks_say_where_nothing_is_gained_and_where_fine_tuning_loses_its_probe() -> None:
    said = " ".join(remarks(ARMS))
    assert "Fine-tuning falls below its own probe by more than a standard error at: 1 (-10.0 ± 0.0)." in said
    assert "DINO, linear probe against from scratch, equal supervised steps" in said
    assert "ahead at 1 (+18.0 ± 1.2); no gain at all (-0.3 ± 0.3)" in said


def test_the_picture_is_drawn(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("matplotlib")
    from smalldata_vit.reports.comparison_picture import draw

    draw(ARMS, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
