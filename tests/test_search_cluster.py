"""Searches whose trials are jobs of a cluster: submitted, pruned, found again, refused. SLURM is played here."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fake_slurm
import pytest
from hydra.core.plugins import Plugins
from test_search import LR, STUB, found, lines, wait_for

from smalldata_vit import hydra_commands
from smalldata_vit.cluster_queue import Shape
from smalldata_vit.cluster_task import Task
from smalldata_vit.jobs import Job
from smalldata_vit.search.on_cluster import OnCluster
from smalldata_vit.search.workers import SUBMITTED, Here
from smalldata_vit.shares import Machine
from smalldata_vit.sweeps import Sweep
from smalldata_vit.words import ConfigError

pytest.importorskip("submitit", reason="needs the extra slurm")

ON_SLURM = ("-m", "hydra/sweeper=optuna", "hydra/launcher=slurm", "method=supervised", "trainer=cpu", "output_dir=out")
ELSEWHERE = """
import sys
from functools import partial
from pathlib import Path
from hydra.core.plugins import Plugins
Plugins.instance()  # executes the files of all plugins, once
from hydra_plugins.smalldata_vit import launcher
from hydra_plugins.smalldata_vit.slurm import SlurmLauncher
from smalldata_vit import hydra_commands
from smalldata_vit.sweeps import Sweep
launcher.draw_report = lambda folder: None
SlurmLauncher.seconds_between_looks = 0.2
hydra_commands.Sweep = partial(Sweep, script=Path("stub.py").resolve())
sys.exit(hydra_commands.run_hydra(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands on PATH, a script in place of run.py, and no report at the end."""
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    monkeypatch.setenv("STUB_SECONDS", "0")
    Plugins.instance()  # executes the files of all plugins, once
    from hydra_plugins.smalldata_vit import launcher, slurm

    monkeypatch.setattr(slurm.SlurmLauncher, "seconds_between_looks", 0.2)
    monkeypatch.setattr(launcher, "draw_report", lambda folder: None)
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra_commands, "Sweep", partial(Sweep, script=tmp_path / "stub.py"))
    return tmp_path / "slurm"


def words(*varied: str, trials: int, jobs: int = 2, more: str = "") -> list[str]:
    return [*ON_SLURM, *varied, f"hydra.sweeper.trials={trials}", f"hydra.sweeper.jobs={jobs}", *more.split()]


def start(typed: list[str], seconds: float) -> "subprocess.Popen[str]":
    """The search in a process of its own; its trials take so long at each of three steps."""
    return subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, *typed],
        env=os.environ | {"STUB_SECONDS": str(seconds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_every_trial_is_a_job_of_its_own_with_what_the_launcher_asks_for(cluster: Path) -> None:
    assert hydra_commands.run_hydra(words(LR, trials=3, more="hydra.launcher.partition=gpu")) == 0
    told = found()["trials"]
    assert [trial["state"] for trial in told] == ["complete"] * 3
    scripts = [fake_slurm.asked_of(script) for script in sorted(cluster.glob("submitted_*.sh"))]
    assert [(one["partition"], "array" in one) for one in scripts] == [("gpu", False)] * 3
    assert sorted(line.split()[0] for line in lines("began.txt")) == [Path(trial["folder"]).name for trial in told]


def test_a_pruned_trial_is_cancelled_and_its_slot_free(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pruner = "hydra.sweeper.budgets=[25] hydra.sweeper.pruner.n_startup_trials=2"
    best = "finetune.optimization.lr=range(0.5,1.0,0.1)"
    assert hydra_commands.run_hydra(words(best, trials=5, more=pruner)) == 0
    monkeypatch.setenv("STUB_SECONDS", "600")  # the rest is worse than the median
    assert hydra_commands.run_hydra(words(best.replace("0.5", "0.1"), trials=6, jobs=1, more=pruner)) == 0
    last = found()["trials"][-1]
    assert (last["state"], last["reached"]) == ("pruned", {"25": last["params"]["finetune.optimization.lr"]})
    assert fake_slurm.said("scancel")[-1] == "4716"
    assert json.loads((Path(last["folder"]) / "slurm.json").read_text())["status"] == 143
    assert "trial 5 has left: its slot is free" in capfd.readouterr().out
    fake_slurm.wait_until_idle(cluster, 20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_outlive_the_search_and_the_next_one_finds_them_again(cluster: Path, number: int) -> None:
    typed = words(LR, trials=3)
    first = start(typed, 1.5)
    wait_for(2, "began.txt", first)
    first.send_signal(number)
    said, _ = first.communicate(timeout=60)
    assert "goes on without the search as 4711 on the cluster" in said or number == signal.SIGKILL
    again = start(typed, 0)
    said, _ = again.communicate(timeout=100)
    assert again.returncode == 0, said
    assert "trial 0 goes on as 4711 on the cluster" in said
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 3
    assert len(lines("began.txt")) == len(fake_slurm.said("sbatch")) == 3


def test_the_same_runs_on_this_machine_by_submitits_own_executor() -> None:
    search = start(words(LR, trials=2, more="hydra.launcher.executor=local"), 0)
    said, _ = search.communicate(timeout=100)
    assert search.returncode == 0, said
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 2


def test_a_trial_whose_job_leaves_the_queue_without_a_word_is_submitted_again_but_not_for_ever(
    cluster: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (cluster / "hold").touch()
    (cluster / "bin" / "squeue").write_text("#!/bin/sh\n")
    assert hydra_commands.run_hydra(words("seed=choice(1,2)", trials=1)) == 1
    assert [trial["error"] for trial in found()["trials"]] == ["its job was killed 3 times"]
    assert len(fake_slurm.said("sbatch")) == 3
    assert "4711 left the queue without a last word" in capfd.readouterr().out


def test_a_cluster_that_takes_no_job_ends_the_search_and_the_same_command_goes_on(
    cluster: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    takes = (cluster / "bin" / "sbatch").read_text()
    (cluster / "bin" / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\nexit 1\n"
    )
    assert hydra_commands.run_hydra(words(LR, trials=2)) == 1
    assert "trial 0 could not be submitted" in (said := capfd.readouterr().out)
    assert "QOSMaxSubmitJobPerUserLimit" in said
    (cluster / "bin" / "sbatch").write_text(takes)
    assert hydra_commands.run_hydra(words(LR, trials=2)) == 0
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("hydra.launcher.executor=locl", "none of slurm, local"),
        ("hydra.launcher.gpus_per_node=1", "lie idle"),
        ("hydra/launcher=smalldata_vit hydra.launcher.jobs=2", r"a search takes hydra\.sweeper\.jobs=2"),
        ("hydra/launcher=basic", "hydra/launcher=smalldata_vit or hydra/launcher=slurm"),
    ],
)
def test_a_launcher_that_cannot_run_trials_is_refused_before_anything_runs(more: str, says: str) -> None:
    typed = [
        word for word in words(LR, trials=2, more=more) if word != "hydra/launcher=slurm" or "launcher=" not in more
    ]
    with pytest.raises(ConfigError, match=says):
        hydra_commands.run_hydra(typed)
    assert lines("began.txt") == []


class Named:
    """A queue that knows one job, and takes others."""

    gpus_per_node, wait, jobs, seconds_between_looks = None, False, 4, 0.0

    def __init__(self, there: Mapping[str, str]) -> None:
        self.known, self.taken = dict(there), list[str]()

    def refuse(self, shape: Shape) -> None:
        """Nobody."""

    def task(self, command: list[str], folder: Path) -> Task:
        return Task(command, str(folder), 0, 1.0)

    def submit(self, tasks: Any, shape: Shape, folder: Path, name: str) -> list[str]:
        self.taken.append(name)
        return ["7"]

    def there(self, names: Any) -> set[str]:
        return set(self.known.values())

    def named(self, name: str) -> set[str]:
        return {self.known[name]} if name in self.known else set()

    def cancel(self, job: str) -> None:
        raise AssertionError(job)


TRAINER = {"accelerator": "cpu", "devices": 1, "nodes": 1}


@pytest.mark.parametrize(
    ("noted", "outcome", "taken", "name"),
    [
        ({"name": "s-0-a", "job": None}, None, 0, "5"),
        ({"name": "s-0-b", "job": None}, None, 1, "7"),
        ({"name": "s-0-a", "job": "5"}, None, 0, "5"),
        ({"name": "s-0-a", "job": "4"}, None, 1, "7"),
        ({"name": "s-0-a", "job": "4"}, {"job": "4", "status": 0, "seconds": 1.0}, 0, "4"),
        ({"name": "s-0-a", "job": "4"}, {"job": "4", "status": 143, "seconds": 1.0}, 1, "7"),
    ],
    ids=["killed after sbatch", "killed before sbatch", "in the queue", "lost", "finished", "cancelled"],
)
def test_a_trial_is_submitted_again_only_if_no_job_works_on_it_or_has_finished_it(
    tmp_path: Path, noted: dict[str, str | None], outcome: dict[str, Any] | None, taken: int, name: str
) -> None:
    queue, folder = Named({"s-0-a": "5"}), tmp_path / "trial"
    folder.mkdir()
    (folder / SUBMITTED).write_text(json.dumps(noted))
    if outcome is not None:
        (folder / "slurm.json").write_text(json.dumps(outcome))
    work = OnCluster(queue, tmp_path, 2, 2, TRAINER).start(Job(0, [], [], folder, Path("run.py")), TRAINER)
    assert (len(queue.taken), work.name) == (taken, name)


def test_as_many_trials_are_in_the_queue_as_both_settings_allow(tmp_path: Path) -> None:
    slots = [
        OnCluster(Named({}), tmp_path, asked, trials, TRAINER).slots for asked, trials in ((2, 9), (9, 9), ("auto", 3))
    ]
    assert slots == [2, 4, 3]


def test_a_search_on_this_machine_leaves_a_trial_to_the_cluster_that_works_on_it(tmp_path: Path) -> None:
    here = Here(Machine((), 1), 1, 1, TRAINER)
    assert here.free(tmp_path)
    (tmp_path / SUBMITTED).write_text(json.dumps({"name": "s-0-a", "job": "5"}))
    assert not here.free(tmp_path)
    (tmp_path / "slurm.json").write_text(json.dumps({"job": "5", "status": 143, "seconds": 1.0}))
    assert here.free(tmp_path)


def test_a_folder_in_which_a_killed_search_still_dies_is_not_free(tmp_path: Path) -> None:
    held = "import sys, time; from pathlib import Path; from smalldata_vit.output import Lock\n"
    held += "with Lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    here = Here(Machine((), 1), 1, 1, TRAINER)
    with subprocess.Popen([sys.executable, "-c", held, str(tmp_path / ".lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert not here.free(tmp_path)
        holder.kill()
    assert here.free(tmp_path)
