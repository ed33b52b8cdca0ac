"""Results that are kept as files alone, as in the repository's results/: what is drawn of them, and what is said."""

import json
from pathlib import Path

import made_runs
import pytest
from made_compare import ARMS, COUNTS, expected_rows, make_compare
from read_pages import Read

from smalldata_vit.reports.__main__ import main
from smalldata_vit.reports.arms import arms_of
from smalldata_vit.reports.compare import collect, write_compare_report
from smalldata_vit.reports.records import find_runs

RESULTS = Path(__file__).parents[2] / "results"


def keep_alone(folder: Path, kept: Path) -> Path:
    """Copy every results.json below a folder as a file with its job's name."""
    for file in folder.rglob("results.json"):
        place = kept / file.parent.parent.relative_to(folder) / f"{file.parent.name}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.read_text())
    return kept


def test_results_kept_alone_are_compared_and_what_is_missing_is_said(tmp_path: Path) -> None:
    kept = keep_alone(made_runs.make_sweep(tmp_path / "sweep"), tmp_path / "kept")
    assert main([str(kept), "--into", str(tmp_path / "there")]) == 0
    page = Read((tmp_path / "there" / "report.html").read_text())
    assert "92.00\u00a0±\u00a02.48" in page.row("method=dino")
    assert "Of all runs results.json alone was kept" in page.text


def test_a_comparison_kept_alone_has_the_same_table(tmp_path: Path) -> None:
    folder = make_compare(tmp_path / "compare")
    kept = keep_alone(folder, tmp_path / "kept")
    (kept / "comparison.json").write_text(json.dumps(collect(folder)))
    page = Read(write_compare_report(kept).read_text())
    rows = expected_rows(folder, COUNTS)
    assert {name: page.row(name)[1:] for name in rows} == rows


def test_files_that_hold_something_else_are_no_runs(tmp_path: Path) -> None:
    kept = keep_alone(made_runs.make_sweep(tmp_path / "sweep"), tmp_path / "kept")
    (kept / "jobs.json").write_text(json.dumps({"schema": 1, "jobs": {}}))
    (kept / "list.json").write_text("[1]")
    assert len(find_runs(kept)) == 9


def test_copies_beside_the_folders_of_runs_are_not_counted_again(tmp_path: Path) -> None:
    made_runs.make_sweep(tmp_path / "runs")
    keep_alone(tmp_path / "runs", tmp_path / "raw")
    assert len(find_runs(tmp_path)) == 9


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "there is no "), ("note.json", "holds no results of a run in schema 1"), ("empty", "holds no run")],
)
def test_what_holds_no_results_is_an_error_that_says_so(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.json").write_text('{"schema": 1}')
    assert main([str(tmp_path / name), "--into", str(tmp_path / "there")]) == 1
    assert said in capsys.readouterr().err


def test_a_single_file_needs_to_be_told_where_its_report_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = keep_alone(made_runs.make_run(tmp_path / "run").parent, tmp_path / "kept")
    assert main([str(kept / "run.json")]) == 1
    assert "say with --into where its report goes" in capsys.readouterr().err
    assert main([str(kept / "run.json"), "--into", str(tmp_path / "there")]) == 0


@pytest.mark.parametrize("name", ["digits_compare", "cifar10_dino", "cifar10_guidance", "precision"])
def test_what_the_repository_keeps_of_its_own_runs_can_be_reported(name: str, tmp_path: Path) -> None:
    assert main([str(RESULTS / name), "--into", str(tmp_path)]) == 0
    page = Read((tmp_path / "report.html").read_text())
    assert len([row for row in page.rows if row and row[0].endswith(".json")]) == len(find_runs(RESULTS / name))


def test_arms_with_many_words_are_called_by_their_options_and_what_tells_them_apart(tmp_path: Path) -> None:
    many = " ".join(f"finetune.views.groups.whole.padding_{number}=4" for number in range(5))
    for place, words in enumerate(
        (f"method=dino pretrain.steps=2 {many}", f"method=dino pretrain.steps=3 {many}", "method=supervised")
    ):
        made_runs.make_run(tmp_path / str(place), words, lr=str(place))
    labels = [arm.label for arm in arms_of(find_runs(tmp_path))]
    assert labels == ["method=dino steps=2", "method=dino steps=3", "method=supervised"]


def test_the_arms_of_the_comparison_that_is_kept_have_their_names(tmp_path: Path) -> None:
    page = Read(write_compare_report(keep_alone(make_compare(tmp_path / "a"), tmp_path / "b")).read_text())
    assert [page.row(name)[0] for name in ARMS.values()] == list(ARMS.values())
