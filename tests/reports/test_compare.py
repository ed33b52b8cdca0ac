"""A comparison of pretraining with training from scratch: what can be asked for, and what is told of its jobs."""

import json
import re
from pathlib import Path

import made_compare
import pytest
from made_compare import COUNTS, accuracies, expected_gains, expected_rows, make_compare
from read_pages import Read

from smalldata_vit.config import ConfigError
from smalldata_vit.reports.__main__ import main as report
from smalldata_vit.reports.compare import collect, main, steps_of_equal_compute, tell
from smalldata_vit.reports.compare_asked import OUT, Asked, configured_steps, read

SHORT = ["pretrain.steps=20", "finetune.steps=10"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_compare(tmp_path_factory.mktemp("compare") / "made")
    tell(folder)
    return folder


def test_the_table_of_a_comparison_has_mean_and_interval_of_its_results(compared: Path) -> None:
    page = Read((compared / "report.html").read_text())
    rows = expected_rows(compared, COUNTS)
    assert {name: page.row(name)[1:] for name in rows} == rows


def test_differences_to_equal_steps_are_those_of_the_paired_test(compared: Path) -> None:
    page = Read((compared / "report.html").read_text())
    cells = [row for row in page.rows if row[:1] == ["DINO, fine-tuned"]][1][1:]
    told = [re.fullmatch(r"(.*), p\u00a0(?:= (\d.\d+)|< 0.001)", cell) for cell in cells]
    expected = expected_gains(compared, COUNTS)
    assert [found and found[1] for found in told] == [gap for gap, _ in expected]
    assert [float(found[2] or 0) if found else None for found in told] == [
        pytest.approx(p, abs=1e-3) for _, p in expected
    ]


def test_a_comparison_shows_all_that_was_promised(compared: Path) -> None:
    text = Read((compared / "report.html").read_text()).text
    for title in (
        "test/accuracy in % over labels per class",
        "Points more than the baseline, paired",
        "finetune: val/accuracy, %",
        "test/accuracy in % over FLOPs",
        "test/accuracy in % over seconds",
        "Probes and pixels",
        "What mattered",
        "it <broke>",
    ):
        assert title in text


def test_arms_have_names_in_every_table_of_a_comparison(compared: Path) -> None:
    for file in ("arms.csv", "arms.md", "comparison.md"):
        text = (compared / file).read_text()
        assert [name in text for name in made_compare.ARMS.values()] == [True, True, True]


def test_the_report_of_a_comparison_that_is_drawn_again_keeps_its_arms(compared: Path) -> None:
    before = (compared / "arms.csv").read_text()
    assert report([str(compared)]) == 0
    assert (compared / "arms.csv").read_text() == before


def test_the_numbers_of_a_comparison_are_those_of_its_results(compared: Path) -> None:
    arms = json.loads((compared / "comparison.json").read_text())
    assert arms == collect(compared)
    assert arms["scratch_equal_compute"]["all"] == {
        str(seed): value for seed, value in accuracies(compared, "scratch_equal_compute", "null").items()
    }


def test_equal_compute_is_counted_in_steps_that_cost_as_many_flops(tmp_path: Path) -> None:
    # A made-up run has 100 steps in fine-tuning, of 2e12 FLOP for each of its 20 s, and 40 s of pretraining before it.
    assert steps_of_equal_compute(make_compare(tmp_path), "1") == 300


def test_a_comparison_that_differs_in_nothing_goes_where_it_always_went() -> None:
    assert read(["--seeds", "0,1,2", "--labels", "all,1,2,5,10"]).out == Asked().out == OUT


def test_comparisons_that_were_asked_for_differently_share_no_folder() -> None:
    words = [(), tuple(SHORT), ("pretrain.steps=21",)]
    asked = [
        Asked(seeds, counts, some) for seeds in ((0, 1, 2), (0,)) for counts in (("1",), ("10",)) for some in words
    ]
    assert len({one.out for one in asked}) == len(asked)


def test_words_hold_for_the_steps_that_are_planned() -> None:
    assert [configured_steps(stage, read(SHORT).words) for stage in ("pretrain", "finetune")] == [20, 10]


def test_steps_of_equal_compute_stay_computed_whatever_is_typed() -> None:
    assert Asked(words=SHORT).words_of_equal_compute == ["pretrain.steps=20"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], "seed is for the comparison to say; --seeds 0,1 says it"),
        (["dataset.labels_per_class=3"], "--labels 1,10 says it"),
        (["output_dir=here"], "gets a folder of its own"),
        (["debug=true"], "pretrain.steps=2 finetune.steps=2 is as short"),
        (["pretrain.steps=1,2"], "one value for all jobs"),
        (["finetune.stepz=3"], "arms with method=dino cannot run: .*Did you mean finetune.steps"),
        (["pretrain.method.hidden=64"], "arms with method=supervised cannot run"),
        (["pretrain.steps=null", "pretrain.epochs=3"], "equal steps: pretrain.epochs=null pretrain.steps="),
        (["--labels", "3"], "'3' is none of 1, 2, 5, 10, all"),
        (["--seeds", "one"], "whole numbers with commas between them"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(words)


def test_a_refusal_is_a_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed=1"]) == 2
    assert capsys.readouterr().err.startswith("error: seed=1: seed is for the comparison to say")
