"""What a sweep makes is what its jobs' commands make alone, bit for bit; what they share is made once. Real runs."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command import TINY, TINY_SUPERVISED, checkpoint, differences, results, run, start, succeed
from stub_jobs import alive

SWEPT = ("seed=0,1,2", "finetune.optimization.lr=0.001,0.01")
SUPERVISED = (*TINY_SUPERVISED, "method=supervised", "finetune.steps=4", "finetune.batch_size=16")


def jobs(folder: Path) -> dict[tuple[str, ...], Path]:
    """The jobs' folders by their words, as the sweep recorded them."""
    found = json.loads((folder / "jobs.json").read_text())["jobs"]
    return {tuple(entry["words"]): folder / name for name, entry in found.items()}


def made(folder: Path) -> dict[str, Any]:
    """All that must be the same of a run: its numbers, and its last weights."""
    return {
        "metrics": {name: stage["metrics"] for name, stage in results(folder)["stages"].items()},
        "encoder": checkpoint(folder / "finetune")["encoder"],
    }


def singles(folder: Path, grid: list[tuple[str, ...]], *fixed: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """The same jobs as commands of their own."""
    for number, words in enumerate(grid):
        succeed(*fixed, *words, f"output_dir={folder / str(number)}")
    return {words: made(folder / str(number)) for number, words in enumerate(grid)}


def assert_same(sweep: Path, alone: dict[tuple[str, ...], dict[str, Any]]) -> None:
    found = jobs(sweep)
    assert found.keys() == alone.keys()
    for words, folder in found.items():
        assert differences(made(folder), alone[words]) == [], words
    assert len({json.dumps(one["metrics"]) for one in alone.values()}) > 1


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_jobs_at_a_time_equal_their_own_commands(tmp_path: Path, processes: int) -> None:
    fixed = (*SUPERVISED, "finetune.steps=2", f"trainer.devices={processes}", "finetune.pass_size=8")
    succeed("-m", *fixed, "seed=0,1", "hydra.launcher.jobs=2", f"output_dir={tmp_path / 'sweep'}")
    assert_same(tmp_path / "sweep", singles(tmp_path, [("seed=0",), ("seed=1",)], *fixed))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_six_jobs_one_and_three_at_a_time_equal_their_own_commands(tmp_path: Path, processes: int) -> None:
    fixed = (*SUPERVISED, f"trainer.devices={processes}", "finetune.pass_size=8")
    grid = [(f"seed={s}", f"finetune.optimization.lr={lr}") for s in range(3) for lr in ("0.001", "0.01")]
    alone = singles(tmp_path, grid, *fixed)
    for at_once in (1, 3):
        place = tmp_path / f"sweep{at_once}"
        succeed("-m", *fixed, *SWEPT, f"hydra.launcher.jobs={at_once}", f"output_dir={place}")
        assert_same(place, alone)


@pytest.mark.slow
def test_a_sweep_of_two_processes_a_job_killed_again_and_again_ends_as_if_it_never_was(tmp_path: Path) -> None:
    fixed = (*SUPERVISED, "trainer.devices=2", "finetune.pass_size=8", "finetune.checkpoint_every_seconds=0")
    fixed = (*fixed, "finetune.steps=30")
    words = ("-m", *fixed, "seed=0,1,2", "hydra.launcher.jobs=2", f"output_dir={tmp_path / 'sweep'}")
    chance = random.Random(0)
    for number in range(4):
        sweep = start(*words)
        time.sleep(chance.uniform(4, 25))
        children = descendants(sweep.pid)
        for pid in [*(chance.sample(children, 1) if children and number % 2 else []), sweep.pid]:
            os.kill(pid, signal.SIGKILL)
        sweep.communicate()
        deadline = time.monotonic() + 60
        while any(alive(pid) for pid in children):
            assert time.monotonic() < deadline, "a process outlived its sweep"
            time.sleep(0.1)
    succeed(*words)
    stamps = {folder: (folder / "results.json").stat().st_mtime_ns for folder in jobs(tmp_path / "sweep").values()}
    succeed(*words)
    assert {folder: (folder / "results.json").stat().st_mtime_ns for folder in stamps} == stamps
    assert_same(tmp_path / "sweep", singles(tmp_path, [(f"seed={n}",) for n in range(3)], *fixed))


@pytest.mark.slow
def test_eight_fine_tunings_started_at_once_share_one_pretraining(tmp_path: Path) -> None:
    rates = [f"finetune.optimization.lr={n}e-3" for n in range(1, 9)]
    swept = "finetune.optimization.lr=" + ",".join(rate.partition("=")[2] for rate in rates)
    fixed = (*TINY, f"store={tmp_path / 'store'}", "pretrain.steps=4", "finetune.steps=2")
    done = succeed("-m", *fixed, swept, "hydra.launcher.jobs=8", f"output_dir={tmp_path / 'sweep'}")
    assert len(list((tmp_path / "store").glob("pretrain-*"))) == 1
    assert done.stdout.count("pretrain taken from the store") >= 7
    assert "waits for job 0's pretrain" in done.stdout
    folders = jobs(tmp_path / "sweep").values()
    assert len({(folder / "pretrain").resolve() for folder in folders}) == 1
    assert {results(folder)["status"] for folder in folders} == {"finished"}


@pytest.mark.slow
def test_a_pretraining_that_fails_fails_those_that_wait_for_it_with_its_reason(tmp_path: Path) -> None:
    fixed = (*TINY, f"store={tmp_path / 'store'}", "pretrain.steps=40", "pretrain.optimization.lr=1e30")
    swept = ("finetune.optimization.lr=1e-3,2e-3,3e-3", "hydra.launcher.jobs=3")
    done = run("-m", *fixed, *swept, f"output_dir={tmp_path / 'sweep'}")
    assert done.returncode == 1
    end = done.stdout.rpartition("judged by")[2]
    assert "pretrain, which job 0 made for it, failed: NonFiniteLoss" in end
    assert end.count("failed (1)") >= 3


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, todo = list[int](), [pid]
    while todo:
        found += (below := parents.get(todo.pop(), []))
        todo += below
    return found
