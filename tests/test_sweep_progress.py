"""What a sweep reads from its jobs' folders, and what its table shows of it."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from stub_jobs import fabricated, leave_results

from smalldata_vit import console, sweep_table
from smalldata_vit.console import Reporter
from smalldata_vit.metrics import MetricsFile
from smalldata_vit.sweep_progress import Watch, final, status_of, taken
from smalldata_vit.sweep_queue import Queue
from smalldata_vit.sweep_table import Display, failures, summary


def test_progress_is_read_as_a_stage_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.console.cache_clear()
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    reporter = Reporter(2400, "step", "pretrain")
    reporter.advance(0, {})
    now[0] = 100.0
    reporter.advance(600, {"train/loss": 1.0})
    console.console.cache_clear()
    said = capsys.readouterr().out
    assert "600/2400" in said
    (tmp_path / "job.log").write_text("pretrain: something\n" + said)
    MetricsFile(tmp_path / "pretrain" / "metrics.csv")
    seen = Watch(tmp_path, {"pretrain": "val/knn_accuracy"}).look()
    assert (seen.stage, seen.share, seen.left) == ("pretrain", 0.25, "5 min 0 s")


def test_the_best_value_is_followed_and_forgotten_when_the_numbers_are_cut_back(tmp_path: Path) -> None:
    file, watch = MetricsFile(tmp_path / "finetune" / "metrics.csv"), Watch(tmp_path, {"finetune": "val/accuracy"})
    found = []
    for step, value in ((1, 0.5), (2, 0.9), (3, 0.7)):
        file.write(step, step, step, {"val/accuracy": value, "train/loss": 9.0})
        found.append(watch.look().best)
    file.cut(1)
    found.append(watch.look().best)
    assert found == [("val/accuracy", best) for best in (0.5, 0.9, 0.9, 0.5)]


def test_the_latest_stage_is_the_one_that_is_shown(tmp_path: Path) -> None:
    watch = Watch(tmp_path, {"pretrain": "val/knn_accuracy", "finetune": "val/accuracy"})
    stages = [watch.look().stage]
    for name in ("pretrain", "finetune"):
        MetricsFile(tmp_path / name / "metrics.csv")
        stages.append(watch.look().stage)
    assert stages == [None, "pretrain", "finetune"]


def test_the_final_metric_is_that_of_validation_or_without_one_of_test(tmp_path: Path) -> None:
    judged = {"pretrain": "val/knn_accuracy", "finetune": "val/accuracy"}
    one, two = fabricated(tmp_path, 1, {}), fabricated(tmp_path, 2, {})
    leave_results(one, stages={"finetune": {"metrics": {"val/accuracy": 0.25, "test/accuracy": 0.5}}})
    leave_results(two, stages={"finetune": {"metrics": {"test/accuracy": 0.5}}})
    assert [final(job.job.folder, judged) for job in (one, two)] == [("val/accuracy", 0.25), ("test/accuracy", 0.5)]


def test_a_stage_from_the_store_is_told_from_one_that_the_job_had_made_itself(tmp_path: Path) -> None:
    for name in ("pretrain", "finetune"):
        (tmp_path / "store" / name).mkdir(parents=True)
    (tmp_path / "pretrain").symlink_to("store/pretrain")
    (tmp_path / "finetune").mkdir()
    said = [f"{n}: finished before with the same settings and data, skipped ({n})\n" for n in ("pretrain", "finetune")]
    (tmp_path / "job.log").write_text("".join(said))
    assert taken(tmp_path) == ["pretrain"]


def test_the_status_of_another_experiment_in_the_folder_is_none_of_ours(tmp_path: Path) -> None:
    job = fabricated(tmp_path, 1, {})
    leave_results(job, status="finished", config_hash="mine")
    assert (status_of(job.job.folder, "mine"), status_of(job.job.folder, "yours")) == ("finished", None)


def test_the_table_says_what_runs_what_waits_and_what_broke(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {"pretrain": "p" if n < 2 else "q"}) for n in range(4)]
    queue = Queue(jobs)
    queue.next()
    queue.next()
    jobs[3].job.status, queue.waiting = 1, [jobs[1]]
    MetricsFile(jobs[0].job.folder / "finetune" / "metrics.csv").write(1, 1, 1, {"val/accuracy": 0.75})
    (jobs[0].job.folder / "job.log").write_text("finetune: step 30/120 (25 %, 2 min 5 s left): loss 1\n")
    with Display(jobs, tmp_path, 3, moves=False) as display:
        display.looked = -10.0
        display.look(queue)
        out = io.StringIO()
        Console(file=out, width=110).print(display.table(queue, 20))
    lines = [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]
    assert any(line.startswith("0 seed=0 finetune") and "25 % 2 min 5 s val/accuracy 0.7500" in line for line in lines)
    assert "1 seed=1 waits for job 0's pretrain" in lines
    assert "3 seed=3 failed (1)" in lines
    assert any(line.startswith("2 running, 0 finished, 1 failed, 1 to go") for line in lines)
    assert "waits for job 0's pretrain" in (tmp_path / "sweep.log").read_text()


def test_a_table_of_a_thousand_jobs_has_the_lines_that_there_is_room_for(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {}) for n in range(1000)]
    for planned in jobs[:500]:
        planned.job.status = int(planned.job.number == 7)
    queue = Queue(jobs[500:])
    queue.next()
    shown = [planned.job.number for planned in sweep_table.chosen(jobs, queue, 12)]
    assert len(shown) == 12
    assert {7, 500, 501} <= set(shown)


def test_an_error_that_many_jobs_share_is_told_once_with_all_their_commands(tmp_path: Path) -> None:
    jobs = [fabricated(tmp_path, n, {}).job for n in range(3)]
    for job in jobs[:2]:
        job.status, job.reason = 1, "pretrain failed"
    assert failures(jobs) == [
        "\njobs 0, 1 failed (1): pretrain failed",
        "  to repeat it: python run.py seed=0",
        "  to repeat it: python run.py seed=1",
    ]


def test_the_line_that_repeats_a_job_names_the_threads_that_it_had(tmp_path: Path) -> None:
    planned = fabricated(tmp_path, 0, {})
    planned.job.status, planned.job.threads = 1, 3
    assert "to repeat it: OMP_NUM_THREADS=3 python run.py seed=0" in summary([planned])
