"""A sweep that stopped goes on with the same command: nothing twice, nothing lost, no process left. Stub jobs."""

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from stub_jobs import killed, lines, start, started, stub

from hydra_plugins.smalldata_vit import launcher
from smalldata_vit import hydra_commands, sweep_plan
from smalldata_vit.output import Lock
from smalldata_vit.shares import Machine
from smalldata_vit.sweeps import Sweep, sweep_folder
from smalldata_vit.words import ConfigError

NOWHERE = Machine((), 1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `-m` starts the stub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra_commands, "Sweep", partial(Sweep, script=stub(tmp_path)))
    monkeypatch.setattr(launcher, "draw_report", lambda folder: None)
    return tmp_path


def sweep(*words: str) -> int:
    return hydra_commands.run_hydra(["-m", "method=supervised", "output_dir=out", *words])


def test_the_same_command_skips_what_is_finished_and_a_new_value_runs_alone(here: Path) -> None:
    assert sweep("seed=0,1") == 0
    assert sweep("seed=0,1") == 0
    assert lines(here, "starts") == [1, 1]
    assert sweep("seed=0,2,1") == 0
    assert lines(here, "starts") == [1, 1, 1]


def test_a_job_that_failed_is_tried_again_and_the_others_are_not(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_FAILS", "1")
    assert sweep("seed=0,1,2", "hydra.launcher.jobs=3") == 1
    record = json.loads((here / "out" / "jobs.json").read_text())["jobs"]
    assert sorted((entry["number"], entry["status"], entry.get("error")) for entry in record.values()) == [
        (0, "finished", None),
        (1, "failed (1)", "error: seed broke"),
        (2, "finished", None),
    ]
    monkeypatch.delenv("STUB_FAILS")
    assert sweep("seed=0,1,2") == 0
    assert lines(here, "starts") == [1, 2, 1]


def test_a_sweep_that_runs_is_not_started_again_beside_itself(here: Path) -> None:
    with Lock(here / "out" / ".lock"), pytest.raises(ConfigError, match="the sweep in out is in use by process"):
        sweep("seed=0,1")


@pytest.mark.parametrize("jobs", ["0", "many"])
def test_a_number_of_jobs_that_is_none_is_refused_in_a_sentence(here: Path, jobs: str) -> None:
    with pytest.raises(ConfigError, match=f"hydra.launcher.jobs={jobs} is neither auto nor"):
        sweep("seed=0,1", f"hydra.launcher.jobs={jobs}")


def test_jobs_auto_runs_them_all(here: Path) -> None:
    assert sweep("seed=0,1", "hydra.launcher.jobs=auto") == 0
    assert lines(here, "ends") == [1, 1]


def test_jobs_that_ask_for_the_same_run_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("seed=0,0") == 0
    assert lines(here, "starts") == [1]
    assert "1 jobs, 1 more ask for the same as one of them" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_random_moments_no_job_runs_twice_none_is_lost_and_nobody_is_left(tmp_path: Path, seed: int) -> None:
    chance, fell = random.Random(seed), list[bool]()
    for round_ in range(2 if seed == 0 else 6):
        # Every third kill may fall before the first job, or between two.
        seconds = -chance.uniform(0, 2) if round_ % 3 == 2 else chance.uniform(0, 1.2)
        sweep_ = start(tmp_path, 5, 2, STUB_SECONDS="0.25")
        fell.append(killed(sweep_, seconds, tmp_path, one_job=round_ % 2 == 0))
    assert sum(fell) >= 2, "no kill met a sweep at work"
    last = start(tmp_path, 5, 2)
    assert last.wait(timeout=120) == 0, last.communicate()
    last.communicate()
    assert lines(tmp_path, "ends") == [1] * 5
    again = len(started(tmp_path))
    once_more = start(tmp_path, 5, 2)
    assert once_more.wait(timeout=120) == 0
    once_more.communicate()
    assert len(started(tmp_path)) == again


def test_a_job_that_is_killed_alone_fails_by_itself_and_goes_on_with_the_next_command(tmp_path: Path) -> None:
    sweep_ = start(tmp_path, 3, 3, STUB_SECONDS="0.5")
    while not (running := started(tmp_path)):
        assert sweep_.poll() is None, sweep_.communicate()
        time.sleep(0.01)
    os.kill(running[0], signal.SIGKILL)
    said, _ = sweep_.communicate(timeout=120)
    assert (sweep_.returncode, said.count("failed (137)"), said.count("finished after")) == (1, 3, 2)
    again = start(tmp_path, 3, 3)
    again.communicate(timeout=120)
    assert (again.returncode, lines(tmp_path, "ends")) == (0, [1, 1, 1])


def folders(fixed: list[str], *overrides: list[str]) -> list[str]:
    planned = sweep_plan.plan(fixed, overrides, 0, Path("x"), Path("run.py"), NOWHERE)
    return [job.job.folder.name for job in planned]


def test_a_job_has_its_folder_whatever_else_is_listed_and_another_config_another() -> None:
    one = folders(["method=supervised"], ["seed=0"], ["seed=1"])
    assert folders(["method=supervised"], ["seed=7"], ["seed=1"])[1] == one[1]
    assert folders(["method=supervised", "finetune.epochs=3", "finetune.steps=null"], ["seed=1"]) != one[1:]
    assert one[0].startswith("seed-0-")


def test_jobs_that_differ_just_in_where_they_run_have_folders_of_their_own() -> None:
    assert len(set(folders(["method=supervised"], ["trainer=cpu"], ["trainer=ddp"]))) == 2


def test_fixed_words_that_say_just_where_jobs_run_change_no_folder() -> None:
    assert folders(["method=supervised", "trainer=cpu"], ["seed=1"]) == folders(["method=supervised"], ["seed=1"])


def test_the_folder_of_a_sweep_depends_on_what_is_fixed_and_not_on_the_values_listed() -> None:
    assert sweep_folder(["seed=0,1", "method=dino"]) == sweep_folder(["method=dino", "seed=0,1,2"])
    assert sweep_folder(["seed=0,1", "method=dino"]) != sweep_folder(["seed=0,1", "method=idmm"])
    assert sweep_folder(["seed=0,1"]) != sweep_folder(["arch.depth=2,3"])
    assert sweep_folder(["seed=0,1", "output_dir=a/b"]) == Path("a/b")


def test_many_wrong_jobs_are_not_all_looked_at() -> None:
    with pytest.raises(ConfigError) as caught:
        sweep_plan.plan(["method=supervised"], [[f"seed={-n}"] for n in range(1, 99)], 0, Path("x"), Path("r"), NOWHERE)
    assert str(caught.value).count("must not be negative") == sweep_plan.WRONG_SHOWN
    assert "were not looked at" in str(caught.value)
