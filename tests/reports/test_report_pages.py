"""The pages: their numbers are those of results.json, nothing is loaded from elsewhere, and they are soon made."""

import base64
import csv
import json
import re
import time
from pathlib import Path

import made_runs
import pytest
from PIL import Image
from read_pages import Read

from smalldata_vit.reports.__main__ import main
from smalldata_vit.reports.drawing import ROLES
from smalldata_vit.reports.run_page import write_run_report
from smalldata_vit.reports.sweep_page import write_sweep_report


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_runs.make_run(tmp_path_factory.mktemp("one") / "run", accuracy=0.875)
    write_run_report(folder)
    return folder


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_runs.make_sweep(tmp_path_factory.mktemp("several") / "sweep")
    write_run_report(folder / "method-dino_0")
    write_sweep_report(folder)
    return folder


def test_the_table_of_a_run_has_the_numbers_of_its_results(run_folder: Path) -> None:
    page = Read((run_folder / "report.html").read_text())
    metrics = json.loads((run_folder / "results.json").read_text())["stages"]["finetune"]["metrics"]
    assert page.row("test accuracy in %, by labelled images per class")[1:] == ["10", "all"]
    assert page.row("fine-tuned network")[1:] == [f"{100 * metrics['test/accuracy']:.1f}", "–"]
    assert "87.5 % test accuracy with 10 labels per class, starting from pretrain" in page.text


def test_the_confusion_matrix_is_that_of_the_results(run_folder: Path) -> None:
    page = Read((run_folder / "report.html").read_text())
    assert [page.row(name)[1:4] for name in made_runs.CLASSES] == [["3", "0", "1"], ["0", "2", "0"], ["1", "0", "1"]]


def test_a_run_tells_of_calibration_hand_off_mistakes_and_versions(run_folder: Path) -> None:
    text = Read((run_folder / "report.html").read_text()).text
    assert "On 8 test images the expected calibration error is 5.0 points" in text
    assert "patch.weight, blocks.0.weight" in text
    assert "said <owl>, 80 %" in text
    assert "c0ffee" in text
    assert "python run.py method=dino seed=0" in text


def test_the_table_of_a_run_is_there_as_csv_with_unrounded_numbers(run_folder: Path) -> None:
    with (run_folder / "table.csv").open() as file:
        rows = {row[0]: row[1:] for row in csv.reader(file)}
    assert rows["fine-tuned network"] == ["0.875", ""]
    assert "| fine-tuned network | 87.5 | - |" in (run_folder / "table.md").read_text()


def test_the_arms_of_a_sweep_have_the_mean_of_their_results_and_an_interval(sweep_folder: Path) -> None:
    row = Read((sweep_folder / "report.html").read_text()).row("method=dino")
    assert "92.00\u00a0±\u00a02.48" in row
    assert "+6.33\u00a0±\u00a03.79" in row


def test_a_sweep_leaves_its_tables_as_files(sweep_folder: Path) -> None:
    with (sweep_folder / "jobs.csv").open() as file:
        jobs = list(csv.DictReader(file))
    assert {(job["words"], float(job["test/accuracy"])) for job in jobs if "simclr" in job["words"]} == {
        ("method=simclr dataset.labels_per_class=10", value) for value in made_runs.ACCURACIES["method=simclr"]
    }
    with (sweep_folder / "arms.csv").open() as file:
        means = {row["arm"]: float(row["mean"]) for row in csv.DictReader(file)}
    assert means["method=dino"] == pytest.approx(0.92)
    assert "| method=dino | 10 | 3 |" in (sweep_folder / "arms.md").read_text()


def test_a_sweep_leads_to_the_reports_of_its_runs_that_have_one(sweep_folder: Path) -> None:
    links = [link for link in Read((sweep_folder / "report.html").read_text()).loaded if link.endswith("report.html")]
    assert links == ["method-dino_0/report.html"]


@pytest.mark.parametrize("kind", ["run_folder", "sweep_folder"])
def test_a_page_loads_nothing_from_anywhere(kind: str, request: pytest.FixtureRequest) -> None:
    text = (request.getfixturevalue(kind) / "report.html").read_text()
    page = Read(text)
    local = ("data:", "#", "method-")
    assert [link for link in page.loaded if not link.startswith(local)] == []
    assert "http" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    assert "script" not in page.tags


@pytest.mark.parametrize("kind", ["run_folder", "sweep_folder"])
def test_every_name_on_a_page_is_there_once_and_what_refers_to_one_finds_it(
    kind: str, request: pytest.FixtureRequest
) -> None:
    text = (request.getfixturevalue(kind) / "report.html").read_text()
    page = Read(text)
    assert len(page.ids) == len(set(page.ids))
    referred = {link[1:] for link in page.loaded if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert referred <= set(page.ids)


def test_plots_have_the_colours_of_the_page_alone(run_folder: Path) -> None:
    drawn = re.findall(r"<svg.*?</svg>", (run_folder / "report.html").read_text(), flags=re.DOTALL)
    assert len(drawn) > 5
    assert set(re.findall(r"(?:fill|stroke): (#\w+|[a-z]+\b(?!\())", "".join(drawn))) <= {"none", "var"}
    assert not any(colour in svg for svg in drawn for colour in ROLES)


def test_a_failed_run_says_why_and_what_was_typed(tmp_path: Path) -> None:
    folder = made_runs.make_run(tmp_path / "run", status="failed")
    results = json.loads((folder / "results.json").read_text()) | {"error": "NonFiniteLoss: step 3 <nan>"}
    (folder / "results.json").write_text(json.dumps(results))
    assert "This run failed. NonFiniteLoss: step 3 <nan>" in Read(write_run_report(folder).read_text()).text


def test_a_run_without_any_pictures_or_curves_still_has_a_report(tmp_path: Path) -> None:
    folder = made_runs.make_run(tmp_path / "run")
    for stage in ("pretrain", "finetune"):
        for file in (folder / stage).iterdir():
            file.unlink()
    assert "fine-tuned network" in write_run_report(folder).read_text()


def test_attention_is_shown_where_it_was_drawn(tmp_path: Path) -> None:
    folder = made_runs.make_run(tmp_path / "run")
    (folder / "attention").mkdir()
    for name in ("attention", "heads_3"):
        Image.new("RGB", (9, 9), (200, 0, 0)).save(folder / "attention" / f"{name}.png")
    page = Read(write_run_report(folder).read_text())
    assert "Attention of the class token in the last block" in page.text
    data = base64.b64encode((folder / "attention" / "attention.png").read_bytes()).decode()
    assert page.loaded.count(f"data:image/png;base64,{data}") == 2


def test_several_folders_are_compared_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_runs.make_sweep(tmp_path / "sweep")
    folders = [str(tmp_path / "sweep" / f"method-{name}_{seed}") for name in ("dino", "simclr") for seed in (0, 1)]
    assert main([*folders, "--into", str(tmp_path / "there"), "--baseline", "simclr"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "there" / "report.html")
    assert "Baseline: method=simclr" in (tmp_path / "there" / "report.html").read_text()


def test_a_folder_that_holds_nothing_is_an_error_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert f"error: {tmp_path} holds no run" in capsys.readouterr().err


def test_a_search_is_drawn_from_its_file(tmp_path: Path) -> None:
    made_runs.make_run(tmp_path / "trial_0")
    space = {"lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "step": None, "log": True}}
    space |= {"arch": {"kind": "choice", "choices": ["a", "b"]}}
    trials = [
        {"number": n, "state": "complete", "params": {"lr": 10.0 ** -(n + 1), "arch": "ab"[n % 2]}, "words": [f"n={n}"],
         "values": [0.5 + n / 10], "reached": {}, "seconds": 3.0, "folder": "", "command": "", "error": None}
        for n in range(4)
    ]  # fmt: skip
    search = {"schema": 1, "trials_asked": 4, "objectives": [{"name": "val/accuracy", "better": "higher"}]}
    search |= {"space": space, "trials": trials, "importances": {"val/accuracy": {"lr": 0.75, "arch": 0.25}}}
    search |= {"best": [{"number": 3, "values": [0.8], "command": "python run.py n=3"}], "why_no_importances": {}}
    (tmp_path / "search.json").write_text(json.dumps(search))
    page = Read(write_sweep_report(tmp_path).read_text())
    assert page.row("lr")[1] == "75"
    assert page.row("3")[1:] == ["n=3", "0.8", "3"]
    assert "Every trial; the better its val/accuracy" in page.text
    assert "test/accuracy" not in page.text


def test_a_pruned_trial_is_told_as_pruned_and_trials_by_the_objective(tmp_path: Path) -> None:
    for name, status in (("trial_0", "finished"), ("trial_1", "interrupted")):
        made_runs.make_run(tmp_path / name)
        results = json.loads((tmp_path / name / "results.json").read_text())
        (tmp_path / name / "results.json").write_text(json.dumps(results | {"status": status}))
    told = {"params": {}, "words": [], "reached": {}, "seconds": 3.0, "command": "", "error": None}
    states = [("complete", "trial_0", [0.5]), ("pruned", "trial_1", None)]
    trials = [told | {"number": n, "state": s, "folder": f, "values": v} for n, (s, f, v) in enumerate(states)]
    search = {"schema": 1, "trials_asked": 2, "objectives": [{"name": "finetune.val/accuracy", "better": "higher"}]}
    search |= {"space": {}, "trials": trials, "importances": {}, "best": [], "why_no_importances": {}}
    (tmp_path / "search.json").write_text(json.dumps(search))
    page = Read(write_sweep_report(tmp_path).read_text())
    assert page.row("trial_1")[1] == "pruned"
    assert "all finished" in page.text
    assert "% val accuracy" in page.text


def test_energy_is_shown_where_every_stage_tells_it(tmp_path: Path) -> None:
    folder = made_runs.make_sweep(tmp_path / "sweep")
    assert "over joules" not in Read(write_sweep_report(folder).read_text()).text
    for file in folder.glob("*/results.json"):
        results = json.loads(file.read_text())
        for stage in results["stages"].values():
            stage["joules"] = 40.0 * stage["seconds"]
        file.write_text(json.dumps(results))
    assert "test/accuracy in % over joules" in Read(write_sweep_report(folder).read_text()).text


@pytest.mark.slow
def test_a_thousand_runs_are_reported_in_seconds(tmp_path: Path) -> None:
    text = json.loads((made_runs.make_run(tmp_path / "pattern") / "results.json").read_text())
    for number in range(1000):
        folder = tmp_path / "sweep" / f"{number:04d}"
        (folder / "finetune").mkdir(parents=True)
        for file in ("config.yaml", "metrics.csv"):
            (folder / "finetune" / file).write_bytes((tmp_path / "pattern" / "finetune" / file).read_bytes())
        text |= {"seed": number % 4, "command": f"python run.py lr={number // 4} seed={number % 4}"}
        (folder / "results.json").write_text(json.dumps(text))
        (folder / "finetune" / "config.yaml").write_text(f"seed: {number % 4}\nlr: {number // 4}\n")
    started = time.process_time()
    write_sweep_report(tmp_path / "sweep")
    assert time.process_time() - started < 10
