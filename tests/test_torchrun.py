"""`torchrun` on the real command line: several stages, and the numbers of the command that starts its ranks itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import (
    ROOT,
    TINY,
    checkpoint,
    differences,
    environment,
    kill_tree,
    results,
    run,
    saved_step,
    succeed,
    wait_for,
)

from smalldata_vit.cluster_leader import free_port

WORDS = (*TINY, "debug=true", "pretrain.pass_size=32", "finetune.pass_size=32", "trainer.devices=2")


def torchrun(*words: str) -> subprocess.Popen[str]:
    """Two ranks of one machine, started in a session of their own."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    return subprocess.Popen(
        [*line, str(ROOT / "run.py"), *words],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_two_stages_under_torchrun_give_the_bits_of_the_same_command_alone(tmp_path: Path) -> None:
    succeed(*WORDS, f"output_dir={tmp_path / 'alone'}")
    started = torchrun(*WORDS, f"output_dir={tmp_path / 'together'}")
    said, _ = started.communicate(timeout=400)
    assert started.returncode == 0, said[-4000:]
    assert said.count("everything is in") == 1, "rank 0 alone tells"
    alone, together = results(tmp_path / "alone"), results(tmp_path / "together")
    for stage in ("pretrain", "finetune"):
        assert together["stages"][stage]["devices"] == 2
        assert together["stages"][stage]["metrics"] == alone["stages"][stage]["metrics"]
        found = differences(checkpoint(tmp_path / "alone" / stage), checkpoint(tmp_path / "together" / stage))
        assert found == []


def start_rank(rank: int, port: int, *words: str) -> subprocess.Popen[str]:
    """One of two ranks, as a starter of one's own would start it."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    extra = {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=ROOT,
        env=environment(extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_rank_that_was_given_other_parameters_stops_the_run_before_its_first_step(tmp_path: Path) -> None:
    words, port = [*WORDS, "stages=[pretrain]", f"output_dir={tmp_path}"], free_port()
    first = start_rank(0, port, *words, "pretrain.optimization.lr=1e-3")
    second = start_rank(1, port, *words, "pretrain.optimization.lr=1e-2")
    said = [rank.communicate(timeout=400)[0] for rank in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1), said
    assert all("ranks [1] run another experiment or see other data than rank 0" in text for text in said), said
    assert saved_step(tmp_path / "pretrain") == -1


def test_the_number_of_ranks_that_the_settings_ask_for_must_be_the_number_that_was_started(tmp_path: Path) -> None:
    ranks = [start_rank(rank, 1, *TINY, "debug=true", f"output_dir={tmp_path / 'run'}") for rank in (0, 1)]
    for rank in ranks:
        said, _ = rank.communicate(timeout=200)
        assert rank.returncode == 1
        assert "trainer.devices=1, but torchrun started 2 on each machine: trainer.devices=2" in said
    assert not (tmp_path / "run").exists()


def test_several_machines_need_somebody_who_starts_the_processes_there(tmp_path: Path) -> None:
    done = run(*TINY, "trainer.nodes=2", f"output_dir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "trainer.nodes=2: on several machines SLURM" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_signal_to_the_agent_leaves_no_process_and_a_run_that_goes_on(tmp_path: Path, number: int) -> None:
    words = (*TINY, "stages=[pretrain]", "pretrain.pass_size=32", "trainer.devices=2", "pretrain.steps=40")
    words = (*words, "pretrain.checkpoint_every_seconds=0")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    started = torchrun(*words, f"output_dir={tmp_path / 'stopped'}")
    try:
        assert wait_for(lambda: saved_step(tmp_path / "stopped" / "pretrain") >= 3, started, seconds=400)
        os.kill(started.pid, number)
        said, _ = started.communicate(timeout=120)
    finally:
        if started.poll() is None:
            kill_tree(started)
    assert started.returncode != 0, said
    deadline = time.monotonic() + 30
    while (left := running_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
    again = torchrun(*words, f"output_dir={tmp_path / 'stopped'}")
    said, _ = again.communicate(timeout=400)
    assert again.returncode == 0, said[-4000:]
    assert "resumes at step" in said
    found = differences(checkpoint(tmp_path / "whole" / "pretrain"), checkpoint(tmp_path / "stopped" / "pretrain"))
    assert found == []


def running_in(folder: Path) -> list[str]:
    """Command lines of processes that name this folder."""
    lines = [p.read_bytes().decode(errors="replace") for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    return [line for line in lines if str(folder) in line and "run.py" in line]
