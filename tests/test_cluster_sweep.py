"""Sweeps on a cluster: what SLURM is asked for, who is submitted again, how a job comes back. The jobs start a stub."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fake_slurm
import pytest

from smalldata_vit import hydra_commands
from smalldata_vit.cluster_queue import Shape, shape_of
from smalldata_vit.sweeps import Sweep
from smalldata_vit.words import ConfigError

STUB = """
import json, os, pathlib, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "ranks").open("a") as file:
    file.write(os.environ["SLURM_PROCID"] + "\\n")
print("hello from", words["seed"], flush=True)
if words["seed"] == "1":
    sys.exit("error: seed 1 broke")
"""
WAITS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(number, frame):
    (folder / "saved").write_text(str(number))
    sys.exit(128 + number)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, save if len(sys.argv) < 3 else lambda *_: None)
(folder / "ready").touch()
time.sleep(60)
"""
pytest.importorskip("submitit", reason="needs the extra slurm")

SLURM = ("-m", "hydra/launcher=slurm", "trainer=cpu")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands on PATH, a script in place of run.py, and a folder of the test's own; all jobs are held."""
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra_commands, "Sweep", partial(Sweep, script=script))
    (tmp_path / "slurm" / "hold").touch()
    return tmp_path / "slurm"


def submit(*words: str) -> int:
    return hydra_commands.run_hydra([*SLURM, "output_dir=out", *words])


def test_a_sweep_is_one_array_with_a_task_for_every_gpu(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["partition=gpu", "account=lab", "minutes=90", "jobs=2", "cpus_per_task=8", "memory_gb=64", "qos=long"]
    words = [f"hydra.launcher.{word}" for word in asked]
    options = ['hydra.launcher.options=["mail-type=END",exclusive]', "hydra.launcher.before=[module load cuda]"]
    hardware = ["trainer=gpu", "trainer.nodes=2", "trainer.devices=4", "pretrain.pass_size=8", "finetune.pass_size=8"]
    words = ["-m", "hydra/launcher=slurm", *words, *options, *hardware, "seed=0,1,2", "output_dir=out"]
    assert hydra_commands.run_hydra(words) == 0
    [script] = cluster.glob("submitted_*.sh")
    expected = {
        "array": "0-2%2",
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "8",
        "mem": "64GB",
        "time": "90",
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "signal": "USR1@120",
        "requeue": "",
        "open-mode": "append",
        "mail-type": "END",
        "exclusive": "",
    }
    assert expected.items() <= fake_slurm.asked_of(script).items()
    [line] = [line for line in script.read_text().splitlines() if line.startswith("srun ")]
    assert "--kill-on-bad-exit=1 --distribution=block --cpus-per-task=8" in line
    assert script.read_text().index("module load cuda") < script.read_text().index("srun ")
    said = capsys.readouterr().out
    assert "3 jobs: 0 finished before, 0 in the queue before, 3 submitted, in out" in said
    assert "job 2 4711_2: out/seed-2" in said


def test_jobs_for_other_machines_are_another_array(cluster: Path) -> None:
    assert submit("seed=0,1", "trainer.devices=1,2", "pretrain.pass_size=8", "finetune.pass_size=8") == 0
    scripts = sorted(cluster.glob("submitted_*.sh"))
    asked = [fake_slurm.asked_of(script) for script in scripts]
    assert [(one["array"], one["ntasks-per-node"]) for one in asked] == [("0-1%2", "1"), ("0-1%2", "2")]
    assert all("gpus-per-node" not in one for one in asked)


def test_the_same_command_again_submits_what_is_not_there(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit("seed=0,1")
    capsys.readouterr()
    assert submit("seed=0,1,2") == 0
    assert "3 jobs: 0 finished before, 2 in the queue before, 1 submitted" in capsys.readouterr().out
    assert len(list(cluster.glob("submitted_*.sh"))) == 2
    (cluster / "alive_4711_1").unlink()
    submit("seed=0,1,2")
    said = capsys.readouterr().out
    assert "2 in the queue before, 1 submitted" in said
    assert "job 1 4713: " in said


def test_a_queue_that_does_not_answer_is_no_reason_to_submit_twice(cluster: Path) -> None:
    submit("seed=0,1")
    (cluster / "bin" / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: timed out' >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="slurm_load_jobs error"):
        submit("seed=0,1")
    assert len(list(cluster.glob("submitted_*.sh"))) == 1


def test_jobs_run_to_their_end_and_the_sweep_says_which_failed(
    cluster: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (cluster / "hold").unlink()
    assert submit("seed=0,1", "trainer.devices=2", "hydra.launcher.wait=true", *PASSES) == 1
    said = capfd.readouterr().out
    assert "error: seed 1 broke" in said
    fake_slurm.wait_until_idle(cluster, 20)
    for seed in (0, 1):
        [folder] = Path("out").glob(f"seed-{seed}*")
        assert sorted((folder / "ranks").read_text().split()) == ["0", "1"], "every rank runs the command"
        assert (folder / "job.log").read_text().count("hello") == 1, "the log of the job is rank 0's"
        outcome = json.loads((folder / "slurm.json").read_text())
        assert (outcome["job"], outcome["status"], outcome["turns"]) == (f"4711_{seed}", seed, 1)


PASSES = ("pretrain.pass_size=8", "finetune.pass_size=8")


def test_a_job_that_leaves_the_queue_without_a_word_has_failed(
    cluster: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra_plugins.smalldata_vit.slurm import SlurmLauncher

    monkeypatch.setattr(SlurmLauncher, "seconds_between_looks", 0.2)
    (cluster / "bin" / "squeue").write_text("#!/bin/sh\n")
    assert submit("seed=0,2", "hydra.launcher.wait=true") == 1
    assert "4711_0 left the queue without a last word" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("trainer", "gpus", "expected"),
    [
        ({"accelerator": "cpu", "devices": 2, "nodes": 1}, None, Shape(1, 2, 0)),
        ({"accelerator": "cpu", "devices": "auto", "nodes": 3}, None, Shape(3, 1, 0)),
        ({"accelerator": "gpu", "devices": 4, "nodes": 2}, None, Shape(2, 4, 4)),
        ({"accelerator": "auto", "devices": "auto", "nodes": 1}, None, Shape(1, 1, 1)),
        ({"accelerator": "auto", "devices": "auto", "nodes": 1}, 8, Shape(1, 8, 8)),
        ({"accelerator": "auto", "devices": 2, "nodes": 1}, 0, Shape(1, 2, 0)),
    ],
)
def test_tasks_of_a_node_are_its_gpus(trainer: dict, gpus: int | None, expected: Shape) -> None:
    assert shape_of(trainer, gpus) == expected


@pytest.mark.parametrize(
    ("trainer", "gpus", "says"),
    [
        ({"accelerator": "gpu", "devices": 2, "nodes": 1}, 4, "they must be equal"),
        ({"accelerator": "cpu", "devices": 1, "nodes": 1}, 1, "lie idle"),
        ({"accelerator": "gpu", "devices": "auto", "nodes": 1}, 0, "at least 1"),
    ],
)
def test_tasks_and_gpus_that_do_not_fit_are_refused(trainer: dict, gpus: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        shape_of(trainer, gpus)


def test_without_slurm_the_launcher_says_how_to_try_it_out(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.executor=local"):
        submit("seed=0,1")


def test_without_submitit_the_launcher_says_how_to_get_it(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra_plugins.smalldata_vit import slurm

    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    assert importlib.util.find_spec("submitit") is not None
    with pytest.raises(ConfigError, match=r"smalldata-vit\[slurm\]"):
        submit("seed=0,1")


def test_a_sweep_by_every_rank_of_a_group_is_refused(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "here")
    with pytest.raises(ConfigError, match="starts its jobs itself"):
        submit("seed=0,1")


JOB = {"SLURM_JOB_ID": "471100", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3", "SUBMITIT_EXECUTOR": "slurm"}


def run_task(
    folder: Path, number: int | None, requeues: int = 2, seconds: float = 20, rank: int = 0, **extra: str
) -> tuple[int, str]:
    """A task whose command waits for a signal, its exit status and what it said."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", WAITS, str(folder), *(["deaf"] if seconds < 1 else [])]
    start = f"from smalldata_vit.cluster_task import Task; Task({command!r}, {str(folder)!r}, {requeues}, {seconds})()"
    ranks = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_NODELIST": "n"}
    ranks |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
    task = subprocess.Popen(
        [sys.executable, "-c", start], env=os.environ | JOB | ranks | extra, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (folder / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    if number is not None:
        task.send_signal(number)
    _, said = task.communicate(timeout=60)
    return task.returncode, said


def test_a_job_whose_time_is_up_saves_and_returns_to_the_queue(cluster: Path, tmp_path: Path) -> None:
    status, said = run_task(tmp_path / "job", signal.SIGUSR1)
    assert (tmp_path / "job" / "saved").read_text() == str(int(signal.SIGUSR1)), said
    assert fake_slurm.said("scontrol") == ["requeue 4711_3"]
    assert status == 255
    assert not (tmp_path / "job" / "slurm.json").exists(), "it is not over"


def test_a_rank_beside_rank_0_leaves_the_queue_to_it_and_ends_nobody(cluster: Path, tmp_path: Path) -> None:
    assert run_task(tmp_path / "job", signal.SIGUSR1, rank=1) == (0, "")
    assert fake_slurm.said("scontrol") == []


def test_a_preempted_job_returns_to_the_queue_whatever_the_limit(cluster: Path, tmp_path: Path) -> None:
    (cluster / "preempted").touch()
    run_task(tmp_path / "job", signal.SIGTERM, requeues=0)
    assert fake_slurm.said("scontrol") == ["show job 4711_3", "requeue 4711_3"]


def test_a_cancelled_job_stays_away(cluster: Path, tmp_path: Path) -> None:
    status, said = run_task(tmp_path / "job", signal.SIGTERM)
    assert fake_slurm.said("scontrol") == ["show job 4711_3"]
    assert status == 1
    assert "exit status 143" in said
    assert json.loads((tmp_path / "job" / "slurm.json").read_text())["status"] == 143


def test_a_job_that_came_back_often_enough_ends(cluster: Path, tmp_path: Path) -> None:
    status, said = run_task(tmp_path / "job", signal.SIGUSR1, requeues=2, SLURM_RESTART_COUNT="2")
    assert fake_slurm.said("scontrol") == []
    assert status == 1
    assert "it had 3 turns (hydra.launcher.requeues)" in said
    assert json.loads((tmp_path / "job" / "slurm.json").read_text()) == {
        "job": "4711_3",
        "status": 138,
        "turns": 3,
        "seconds": pytest.approx(0, abs=60),
    }


def test_a_queue_that_does_not_take_a_job_back_is_quoted(cluster: Path, tmp_path: Path) -> None:
    (cluster / "refuse").touch()
    status, said = run_task(tmp_path / "job", signal.SIGUSR1)
    assert status == 1
    assert "presently disabled" in said
    assert "the same sweep command submits the job again" in said


def test_a_command_that_does_not_leave_in_time_returns_to_the_queue_all_the_same(cluster: Path, tmp_path: Path) -> None:
    status, _ = run_task(tmp_path / "job", signal.SIGUSR1, seconds=0.5)
    assert (status, fake_slurm.said("scontrol")) == (255, ["requeue 4711_3"])
