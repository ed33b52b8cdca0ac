"""Whole commands with logger=wandb: what their offline runs hold."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import command
import pytest
from offline_runs import GUIDED, SMALL, Offline, environment, start, temporary

from smalldata_vit.dashboards import panels, views


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a guide and what it guided."""
    folder = tmp_path_factory.mktemp("wandb")
    more = ("logger.wandb.peak_flops=1e12", "logger.wandb.checkpoints=true", "tags=[mine]")
    done = start(*GUIDED, *more, f"output_dir={folder / 'run'}", home=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "run"


@pytest.fixture(scope="module")
def finetuned(guided: Path) -> Offline:
    return Offline(guided / "finetune")


def test_stages_are_runs_of_one_group_with_a_type_each(guided: Path, finetuned: Offline) -> None:
    guide = Offline(guided / "guide")
    said = [(one.run["run_group"], one.run["job_type"], one.exit_code) for one in (guide, finetuned)]
    assert said == [("supervised_digits", "guide", 0), ("supervised_digits", "finetune", 0)]


def test_a_run_can_be_found_by_its_options(finetuned: Offline) -> None:
    assert {"mine", "method=supervised", "dataset=digits", "guidance=adaptive"} <= set(finetuned.run["tags"])
    assert (finetuned.config["guidance"], finetuned.config["arch.depth"]) == ("adaptive", 2)


def test_the_summary_has_the_final_numbers_of_the_results(guided: Path, finetuned: Offline) -> None:
    stages = json.loads((guided / "results.json").read_text())["stages"]
    metrics = stages["finetune"]["metrics"]
    assert {name: finetuned.summary[name] for name in metrics} == pytest.approx(metrics)
    whole = stages["finetune"]["seconds"] + stages["guide"]["seconds"]
    assert finetuned.summary["cost/total_seconds"] == pytest.approx(whole)


def test_rows_are_those_of_the_metrics_file_and_what_follows_from_them(guided: Path, finetuned: Offline) -> None:
    written = {line.split(",")[3] for line in (guided / "finetune" / "metrics.csv").read_text().splitlines()[1:]}
    derived = {"train/flops_per_second", "train/share_of_peak"}
    rows = {key for key in finetuned.keys if not key.startswith(("_", "media/"))} - {"step"}
    assert rows == written | derived


def test_pictures_tables_and_weights_are_there(finetuned: Offline) -> None:
    shown = {key for key in finetuned.keys if key.startswith("media/")}
    assert shown == {"media/views", "media/confusion", "media/mixed_up", "media/mistakes"}
    assert [one["type"] for one in finetuned.of("artifact")].count("checkpoint") == 1


def test_nothing_of_a_run_lies_outside_its_folder(guided: Path) -> None:
    outside = [file for file in (guided.parent / ".local").rglob("*") if file.is_file()]
    assert outside == []


def test_the_views_of_guidance_draw_what_a_guided_run_logs(finetuned: Offline) -> None:
    # Seconds need more steps than two: tests/test_dashboards.py finds their names in the code.
    wanted = {key for key in panels.history(views.GUIDANCE) if "guidance" in key}
    assert wanted <= finetuned.keys


def test_the_views_of_speed_draw_what_every_run_logs(finetuned: Offline) -> None:
    wanted = {key for key in panels.history(views.SPEEDS) if not key.startswith("system/")}
    measured = {f"system/{key}" for one in finetuned.of("stats") for key in one["item"]}
    of_gpus = {key for key in panels.history(views.SPEEDS) if key.startswith("system/gpu.0.")}
    assert wanted <= finetuned.keys
    assert panels.history(views.SPEEDS) - wanted - of_gpus <= measured
    assert panels.finals(views.SPEEDS) <= set(finetuned.summary)


def test_the_views_of_fine_tuning_and_comparison_draw_what_a_fine_tuning_leaves(finetuned: Offline) -> None:
    for view in (views.FINE_TUNING, views.COMPARISON):
        assert panels.finals(view) <= set(finetuned.summary)
        assert panels.used_labels(view) <= set(finetuned.config)
    shown = panels.media(views.FINE_TUNING) - {"media/attention"}
    assert shown <= finetuned.keys


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run whose loss became infinite."""
    folder = tmp_path_factory.mktemp("failed")
    words = (*SMALL, "method=supervised", "optimization.lr=1e30", "finetune.steps=4", "debug=false")
    assert start(*words, f"output_dir={folder / 'run'}", home=folder).returncode != 0
    return folder / "run"


def test_a_job_that_fails_is_marked_failed_and_says_why(failed: Path) -> None:
    run = Offline(failed / "finetune")
    assert (run.exit_code, run.summary["status"]) == (1, "failed")
    assert "not finite" in run.summary["error"]


@pytest.mark.parametrize("run", ["guided", "failed"])
def test_a_run_leaves_nothing_in_the_temporary_folder(run: str, request: pytest.FixtureRequest) -> None:
    assert list(temporary(request.getfixturevalue(run).parent).iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_leaves_nothing_in_the_temporary_folder(tmp_path: Path, number: int) -> None:
    words = (*SMALL, "method=supervised", "finetune.steps=100000", "debug=false", f"output_dir={tmp_path / 'run'}")
    line, quiet = command.command(*words), subprocess.DEVNULL
    with subprocess.Popen(line, cwd=command.ROOT, env=environment(tmp_path), stdout=quiet, stderr=quiet) as run:
        try:
            wait_until(lambda: any(tmp_path.glob("run/finetune/wandb/offline-run-*/*.wandb")))
            assert list(temporary(tmp_path).iterdir()) != []
            run.send_signal(number)
            run.wait(timeout=240)
        finally:
            run.kill()
    wait_until(lambda: list(temporary(tmp_path).iterdir()) == [])


def test_what_a_run_uploads_later_does_not_lie_in_the_temporary_folder(finetuned: Offline) -> None:
    contents = [one for record in finetuned.of("artifact") for one in record["manifest"]["contents"]]
    kept = [Path(one["local_path"]) for one in contents if "local_path" in one]
    assert len(kept) >= 3
    assert [file for file in kept if not file.exists()] == []


def wait_until(what: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 240
    while not what():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Offline:
    """A run with pictures of attention, and without weights."""
    folder = tmp_path_factory.mktemp("drawn")
    more = ("method=supervised", "logger.wandb.attention_images=1", "logger.wandb.finish_seconds=300")
    small = [word for word in SMALL if "attention" not in word]
    done = start(*small, *more, f"output_dir={folder / 'run'}", home=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return Offline(folder / "run" / "finetune")


@pytest.mark.slow
def test_attention_is_shown_where_it_is_asked_for(drawn: Offline) -> None:
    assert "media/attention" in drawn.keys


@pytest.mark.slow
def test_weights_are_no_artifact_unless_asked_for(drawn: Offline) -> None:
    assert {one["type"] for one in drawn.of("artifact")} <= {"run_table"}


@pytest.mark.slow
def test_three_jobs_of_two_stages_are_six_finished_runs(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = start(*GUIDED, "-m", "seed=0,1,2", f"output_dir={sweep}", home=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = [Offline(file.parent) for file in sorted(sweep.rglob("stage.json"))]
    said = sorted((run.run["job_type"], run.config["seed"], run.run["run_group"], run.exit_code) for run in runs)
    assert said == [(stage, seed, "supervised_digits", 0) for stage in ("finetune", "guide") for seed in (0, 1, 2)]
    assert len({run.run["run_id"] for run in runs}) == 6


@pytest.mark.slow
def test_a_server_that_is_not_there_ends_a_command_within_a_minute_of_its_training(tmp_path: Path) -> None:
    done = start(*SMALL, "method=supervised", f"output_dir={tmp_path / 'run'}", home=tmp_path, unreachable=True)
    assert time.time() - (tmp_path / "run" / "finetune" / "stage.json").stat().st_mtime < 60
    assert done.returncode == 0, done.stderr[-4000:]
    assert "W&B: offline (" in done.stdout + done.stderr
