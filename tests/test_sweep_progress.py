"""What a sweep reads from its jobs' folders while they run, and afterwards."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from stub_jobs import fabricated, leave_results, leave_stage
from torch import nn

from smalldata_vit import described, sweep_progress
from smalldata_vit.assembly import Assembly
from smalldata_vit.metrics import MetricsFile
from smalldata_vit.sweep_progress import Seen, Watch, final, status_of, taken

JUDGED = {"finetune": "val/accuracy"}


BEGUN = "finetune: Supervised on 50 images, {} steps of 50 (one pass a device), 5,114 trainable parameters\n"


def moved(folder: Path, step: int) -> None:
    """A stage writes its numbers."""
    MetricsFile(folder / "finetune" / "metrics.csv").write(step, step, step, {"train/loss": 1.0})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its first number is the time that a watch sees."""
    now = [0.0]
    monkeypatch.setattr(sweep_progress.time, "monotonic", lambda: now[0])
    return now


def test_progress_and_the_time_left_follow_from_the_length_of_a_stage_and_the_steps_it_makes(
    tmp_path: Path, clock: list[float]
) -> None:
    watch = Watch(tmp_path, JUDGED)
    (tmp_path / "job.log").write_text(BEGUN.format(2400))
    found = []
    for clock[0], step in ((10.0, 600), (110.0, 1200), (310.0, 2400)):
        moved(tmp_path, step)
        seen = watch.look()
        found.append((seen.stage, seen.share, seen.left))
    assert found == [("finetune", 0.25, None), ("finetune", 0.5, 200.0), ("finetune", 1.0, None)]


def test_a_job_that_goes_on_shows_nothing_of_what_an_earlier_command_said(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text(BEGUN.format(2400))
    moved(tmp_path, 600)
    watch = Watch(tmp_path, JUDGED)
    before = watch.look()
    with (tmp_path / "job.log").open("a") as log:
        log.write(BEGUN.format(1200))
    assert (before.share, watch.look().share) == (None, 0.5)


def test_the_pace_of_a_stage_that_was_cut_back_to_a_checkpoint_is_measured_anew(
    tmp_path: Path, clock: list[float]
) -> None:
    watch = Watch(tmp_path, JUDGED)
    (tmp_path / "job.log").write_text(BEGUN.format(100))
    moved(tmp_path, 50)
    watch.look()
    MetricsFile(tmp_path / "finetune" / "metrics.csv").cut(0)
    watch.look()
    for clock[0], step in ((1000.0, 10), (1010.0, 20)):
        moved(tmp_path, step)
        left = watch.look().left
    assert left == 80.0


def test_a_stage_says_its_length_in_the_words_that_a_watch_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = SimpleNamespace(images=50, total_steps=2400, batch_size=50, pass_size=None)
    optimization = SimpleNamespace(peak=lambda batch_size: 0.001)
    trainer = SimpleNamespace(accelerator=SimpleNamespace(name=lambda: "cpu"), world_size=1, precision="32-true")
    stage = object.__new__(Assembly)
    for name, part in (("method", nn.Linear(1, 1)), ("trainer", trainer)):
        object.__setattr__(stage, name, part)
    object.__setattr__(stage, "learner", SimpleNamespace(course=course, optimization=optimization))
    monkeypatch.setattr(described, "path_of", lambda config, stage: "")
    told = described.describe({}, stage)
    watch = Watch(tmp_path, JUDGED)
    (tmp_path / "job.log").write_text(f"finetune: {told}\n")
    moved(tmp_path, 600)
    assert watch.look().share == 0.25


def test_after_a_stage_that_is_finished_the_next_one_is_shown(tmp_path: Path) -> None:
    job = fabricated(tmp_path, 0, {}, {"pretrain": "val/knn_accuracy", "finetune": "val/accuracy"})
    MetricsFile(job.job.folder / "pretrain" / "metrics.csv")
    leave_stage(job, "pretrain", status="finished")
    assert Watch(job.job.folder, job.judged_by).look() == Seen("finetune")


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
