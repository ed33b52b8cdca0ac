"""A stage that was killed, stopped or damaged goes on as if nothing had happened, on the real command line."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from command import (
    FINETUNE,
    TINY,
    checkpoint,
    differences,
    kill_tree,
    results,
    saved_step,
    start,
    succeed,
    wait_for,
)

PRETRAIN = (*TINY, "stages=[pretrain]", "pretrain.checkpoint_every_seconds=0", "pretrain.evaluate_every_epochs=1")
TWO_RANKS = ("trainer.devices=2", "pretrain.pass_size=32")
SIXTY = "pretrain.steps=60"


def kill_until_finished(words: tuple[str, ...], folder: Path, kills: int, seed: int) -> int:
    """Kill the command at random, each time after a newly saved step, then let it end; returns the kills that fell."""
    chance, fallen, before = random.Random(seed), 0, -1
    while fallen < kills:
        process = start(*words, f"output_dir={folder}")
        wanted = before + chance.randint(1, 12)
        if not wait_for(lambda wanted=wanted: saved_step(folder / "pretrain") >= wanted, process):
            kill_tree(process)
            break
        if process.poll() is None:
            kill_tree(process)
            after = saved_step(folder / "pretrain")
            assert after > before
            before, fallen = after, fallen + 1
    succeed(*words, f"output_dir={folder}")
    return fallen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of one process."""
    folder = tmp_path_factory.mktemp("resuming") / "whole"
    succeed(*PRETRAIN, SIXTY, f"output_dir={folder}")
    return folder


def assert_same(one: Path, other: Path) -> None:
    assert differences(checkpoint(one / "pretrain"), checkpoint(other / "pretrain")) == []
    first, second = (results(folder)["stages"]["pretrain"]["metrics"] for folder in (one, other))
    assert first == second


def test_a_killed_and_resumed_stage_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, whole: Path) -> None:
    assert kill_until_finished((*PRETRAIN, SIXTY), tmp_path / "killed", 1, seed=0) == 1
    assert_same(whole, tmp_path / "killed")


@pytest.mark.slow
def test_a_killed_and_resumed_stage_of_two_ranks_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    words = (*PRETRAIN, *TWO_RANKS, SIXTY)
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    assert kill_until_finished(words, tmp_path / "killed", 1, seed=0) == 1
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("extra", [(), TWO_RANKS], ids=["one process", "two ranks"])
def test_many_kills_in_a_row_leave_no_trace(tmp_path: Path, extra: tuple[str, ...], seed: int) -> None:
    words = (*PRETRAIN, *extra, "pretrain.steps=90")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    assert kill_until_finished(words, tmp_path / "killed", 5, seed) == 5
    found = differences(checkpoint(tmp_path / "whole" / "pretrain"), checkpoint(tmp_path / "killed" / "pretrain"))
    assert found == []


def test_fine_tuning_with_mixing_and_drop_path_resumes_bit_for_bit_after_a_kill(tmp_path: Path) -> None:
    words = (*FINETUNE, "finetune.steps=40", "finetune.checkpoint_every_seconds=0")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    process = start(*words, f"output_dir={tmp_path / 'killed'}")
    assert wait_for(lambda: saved_step(tmp_path / "killed" / "finetune") >= 9, process)
    kill_tree(process)
    succeed(*words, f"output_dir={tmp_path / 'killed'}")
    found = differences(checkpoint(tmp_path / "whole" / "finetune"), checkpoint(tmp_path / "killed" / "finetune"))
    assert found == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_between_steps_and_leaves_with_its_status_and_the_command_that_continues(
    tmp_path: Path, number: int, status: int
) -> None:
    words = (*TINY, "pretrain.steps=100000", "stages=[pretrain,finetune]", f"output_dir={tmp_path / 'run'}")
    process = start(*words)
    metrics = tmp_path / "run" / "pretrain" / "metrics.csv"
    assert wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert saved_step(tmp_path / "run" / "pretrain") > 0
    assert f"output_dir={tmp_path / 'run'}" in said.splitlines()[-1]
    assert results(tmp_path / "run")["status"] == "interrupted"


def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path: Path, whole: Path) -> None:
    words = (*PRETRAIN, SIXTY)
    process = start(*words, f"output_dir={tmp_path / 'hurt'}")
    stage = tmp_path / "hurt" / "pretrain"
    assert wait_for(lambda: saved_step(stage) >= 10, process)
    kill_tree(process)
    newest = sorted((stage / "checkpoints").glob("step_*.ckpt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    done = succeed(*words, f"output_dir={tmp_path / 'hurt'}")
    assert newest.name in done.stdout + done.stderr
    assert_same(whole, tmp_path / "hurt")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it starts", "while it trains"])
def test_a_killed_sweep_leaves_no_process_of_any_rank(tmp_path: Path, moment: str) -> None:
    words = (
        *TINY,
        "stages=[pretrain]",
        "pretrain.steps=60000",
        *TWO_RANKS,
        "seed=0,1",
        f"output_dir={tmp_path / 'sweep'}",
    )
    sweep = start("-m", *words)
    sign = "log.txt" if moment == "while it starts" else "metrics.csv"
    assert wait_for(lambda: any(tmp_path.glob(f"sweep/*/pretrain/{sign}")), sweep)
    sweep.kill()
    sweep.communicate()
    deadline = time.monotonic() + 20
    while (left := running_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def running_in(folder: Path) -> list[str]:
    """Command lines of processes that name this folder."""
    lines = [p.read_bytes().decode(errors="replace") for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    return [line for line in lines if str(folder) in line and "run.py" in line]
