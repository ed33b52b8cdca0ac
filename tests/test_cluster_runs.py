"""Real runs of a sweep on submitit: by its executor for this machine, and by SLURM's commands played here."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import fake_slurm
import pytest
from command import (
    FINETUNE,
    ROOT,
    checkpoint,
    command,
    differences,
    environment,
    results,
    saved_step,
    succeed,
    wait_for,
)

pytest.importorskip("submitit", reason="needs the extra slurm")

ONE = (*FINETUNE, "stages=[finetune]", "debug=true")
TWO_RANKS = ("trainer.devices=2", "finetune.pass_size=32")
LONGER = (*FINETUNE, "stages=[finetune]", "finetune.steps=60", "finetune.checkpoint_every_seconds=1000")


def sweep(*words: str, extra: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A sweep that submits its jobs and waits for them."""
    return subprocess.Popen(
        command("-m", "hydra/launcher=slurm", "hydra.launcher.wait=true", *words),
        cwd=ROOT,
        env=environment(extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def equal(one: Path, other: Path) -> list[str]:
    """Differences of two runs of a fine-tuning, in weights and numbers."""
    metrics = [results(folder)["stages"]["finetune"]["metrics"] for folder in (one, other)]
    return differences(checkpoint(one / "finetune"), checkpoint(other / "finetune")) + differences(*metrics)


def until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    assert wait_for(condition, process, seconds=400), process.communicate()[0]


@pytest.mark.slow
def test_jobs_under_submitit_equal_the_same_command_alone_and_are_not_run_twice(tmp_path: Path) -> None:
    """Two jobs of two ranks: the ranks of each join what submitit started, and none of the other job's."""
    started = sweep(*ONE, *TWO_RANKS, "hydra.launcher.executor=local", "seed=0,1", f"output_dir={tmp_path / 'sweep'}")
    said, _ = started.communicate(timeout=500)
    assert started.returncode == 0, said[-4000:]
    [job] = (tmp_path / "sweep").glob("seed-1*")
    assert results(job)["stages"]["finetune"]["devices"] == 2
    succeed(*ONE, *TWO_RANKS, "seed=1", f"output_dir={tmp_path / 'alone'}")
    assert equal(job, tmp_path / "alone") == []
    again = sweep(*ONE, *TWO_RANKS, "hydra.launcher.executor=local", "seed=0,1", f"output_dir={tmp_path / 'sweep'}")
    said, _ = again.communicate(timeout=200)
    assert "2 jobs: 2 finished before, 0 in the queue before, 0 submitted" in said


@pytest.mark.parametrize(
    "hardware",
    [("trainer.devices=2",), pytest.param(("trainer.nodes=2", "trainer.devices=1"), marks=pytest.mark.slow)],
    ids=["one machine", "two machines"],
)
def test_a_job_that_slurm_interrupts_and_starts_again_ends_as_if_nothing_had_happened(
    tmp_path: Path, hardware: tuple[str, ...]
) -> None:
    """Two ranks; the signal before the time limit goes to every process of the job, as SLURM sends it."""
    slurm = tmp_path / "slurm"
    extra = fake_slurm.install(slurm)
    words = (*LONGER, "finetune.pass_size=32")
    started = sweep(*words, *hardware, "seed=3", f"output_dir={tmp_path / 'sweep'}", extra=extra)
    try:
        until(started, lambda: any((tmp_path / "sweep").glob("*/finetune/metrics.csv")))
        [job] = (tmp_path / "sweep").glob("job-*")
        until(started, lambda: (job / "finetune" / "metrics.csv").read_text().count("\n") > 3)
        for file in slurm.glob("task_4711_*"):
            os.killpg(int(file.read_text()), signal.SIGUSR1)
        said, _ = started.communicate(timeout=500)
    finally:
        for file in slurm.glob("task_4711_*"):
            if started.poll() is None:
                os.killpg(int(file.read_text()), signal.SIGKILL)
    assert started.returncode == 0, said[-4000:] + (slurm / "slurmd.log").read_text()
    fake_slurm.wait_until_idle(slurm, 30)
    assert (slurm / "scontrol.calls").read_text() == "requeue 4711\n"
    assert json.loads((job / "slurm.json").read_text())["turns"] == 2
    log = (job / "job.log").read_text()
    assert "stopped by a signal at step" in log
    assert "resumes at step" in log
    succeed(*words, "trainer.devices=2", "seed=3", f"output_dir={tmp_path / 'whole'}")
    assert saved_step(tmp_path / "whole" / "finetune") == 60
    assert equal(job, tmp_path / "whole") == []
