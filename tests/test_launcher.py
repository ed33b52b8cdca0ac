"""Sweeps: a process a job, a clean environment, folders, failures, signals. The jobs start a script of the test."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from smalldata_vit import hydra_commands, sweeps
from smalldata_vit.jobs import environment_of
from smalldata_vit.shares import Machine
from smalldata_vit.sweep_plan import folder_name, job_folder
from smalldata_vit.sweeps import Sweep

STUB = """
import json, os, pathlib, signal, subprocess, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "seen.json").write_text(json.dumps({"words": sys.argv[1:], "environment": dict(os.environ)}))
print("hello from", words.get("seed"), flush=True)
if words.get("name") == "waits":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    time.sleep(60)
if words.get("seed") == "1":
    sys.exit("error: seed 1 broke")
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of run.py; the sweep runs in a folder of the test."""
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra_commands, "Sweep", partial(Sweep, script=script))
    return script


def seen(folder: Path) -> dict[str, dict]:
    """What each job saw, by the name of its folder."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("**/seen.json"))}


def test_each_job_is_a_command_with_its_own_words_and_folder(stub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["seed=0,2", "method=dino,supervised", "finetune.optimization.lr=1e-3", "name=n"]
    assert hydra_commands.run_hydra(["-m", *words]) == 0
    [folder] = Path("outputs/sweeps").iterdir()
    assert folder.name.startswith("n-")
    jobs = seen(folder)
    assert [name.rpartition("-")[0] for name in jobs] == [
        "seed-0_method-dino",
        "seed-0_method-supervised",
        "seed-2_method-dino",
        "seed-2_method-supervised",
    ]
    name = list(jobs)[1]
    assert jobs[name]["words"] == [
        "finetune.optimization.lr=1e-3",
        "name=n",
        "seed=0",
        "method=supervised",
        f"output_dir={folder}/{name}",
    ]
    printed = capfd.readouterr().out
    assert "hello from 2" in printed
    assert "job 3 finished" in printed
    assert (folder / next(iter(jobs)) / "job.log").read_text() == "hello from 0\n"


def test_keys_that_only_a_plan_brings_in_can_be_fixed_and_swept(stub: Path) -> None:
    words = ["views.groups.global.flip=0.1,0.2", "pretrain.views=multicrop", "dataset=cifar10", "output_dir=out"]
    assert hydra_commands.run_hydra(["-m", *words]) == 0
    assert len(seen(Path("out"))) == 2


def test_a_job_that_fails_is_told_at_the_end_and_the_others_finish(
    stub: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hydra_commands.run_hydra(["-m", "seed=0,1,2", "hydra.launcher.jobs=2", "output_dir=out"]) == 1
    assert len(seen(Path("out"))) == 3
    end = capfd.readouterr().out.split("overrides")[-1]
    assert "error: seed 1 broke" in end
    assert "python stub.py seed=1 output_dir=out/seed-1-" in end
    assert end.count("finished") == 2


def test_each_job_sees_a_gpu_of_its_own(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(sweeps, "this_machine", lambda: Machine(("0", "1"), 6))
    hydra_commands.run_hydra(["-m", "seed=0,2", "hydra.launcher.jobs=auto", "output_dir=out"])
    jobs = [job["environment"] for job in seen(Path("out")).values()]
    assert sorted(job["CUDA_VISIBLE_DEVICES"] for job in jobs) == ["0", "1"]
    assert {job["CUDA_DEVICE_ORDER"] for job in jobs} == {"PCI_BUS_ID"}


def test_a_smaller_number_of_threads_in_the_environment_stays(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert environment_of(3)["OMP_NUM_THREADS"] == "2"
    assert environment_of(1)["OMP_NUM_THREADS"] == "1"


def test_jobs_inherit_no_process_group_and_share_the_threads(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT", "PL_GLOBAL_SEED", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(sweeps, "this_machine", lambda: Machine(("0", "1"), 6))
    hydra_commands.run_hydra(["-m", "seed=0,2", "trainer.accelerator=cpu", "hydra.launcher.jobs=2", "output_dir=out"])
    job = next(iter(seen(Path("out")).values()))
    assert not {k for k in job["environment"] if k.startswith(("LOCAL_", "RANK", "WORLD", "MASTER", "PL_", "TORCHEL"))}
    assert (job["environment"]["KEPT"], job["environment"]["OMP_NUM_THREADS"]) == ("yes", "3")


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["seed=0,2", "output_dir=out"], ["out/seed-0", "out/seed-2"]),
        (["seed=0,2", "output_dir=out/s${seed}"], ["out/s0", "out/s2"]),
        (["output_dir=out/a,out/b"], ["out/a", "out/b"]),
    ],
)
def test_a_swept_output_dir_needs_no_subfolders(stub: Path, words: list[str], folders: list[str]) -> None:
    assert hydra_commands.run_hydra(["-m", *words]) == 0
    found = sorted(str(file.parent) for file in Path("out").glob("**/seen.json"))
    assert [re.sub(r"-[0-9a-f]{8}$", "", folder) for folder in found] == folders


def test_jobs_that_would_share_a_folder_are_refused(stub: Path) -> None:
    with pytest.raises(sweeps.ConfigError, match="that of several jobs"):
        hydra_commands.run_hydra(["-m", "seed=0,2", "arch.depth=1,2", "output_dir=out/${seed}"])
    assert seen(Path("out")) == {}


def test_one_wrong_job_stops_the_sweep_before_the_first_starts(stub: Path) -> None:
    with pytest.raises(sweeps.ConfigError, match=r"job 1 .*Did you mean cifar10"):
        hydra_commands.run_hydra(["-m", "dataset=digits,cifr10", "output_dir=out"])
    assert seen(Path("out")) == {}


@pytest.mark.parametrize("made", [partial(folder_name, 3), partial(job_folder, "hash")])
def test_folder_names_are_safe_and_not_too_long(made: Callable[[list[str]], str]) -> None:
    name = made(["a.b=[1,2]", "c='x/y z'", "d=" + "e" * 300])
    assert "a.b-1-2_c-x-y-z_d-e" in name
    assert len(name) <= 80
    assert not set(name) & set("=,/' []")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_the_job_ends_the_sweep_and_leaves_nothing(stub: Path, number: int, status: int) -> None:
    driver = stub.with_name("driver.py")
    driver.write_text(
        "import functools, pathlib, sys\n"
        "from smalldata_vit import hydra_commands\n"
        f"script = pathlib.Path({str(stub)!r})\n"
        "hydra_commands.Sweep = functools.partial(hydra_commands.Sweep, script=script)\n"
        "sys.exit(hydra_commands.run_hydra(sys.argv[1:]))\n"
    )
    words = ["-m", "seed=0,2", "name=waits", "output_dir=out"]
    sweep = subprocess.Popen([sys.executable, str(driver), *words], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(file.read_text() for file in Path("out").glob("*/pids")) and time.monotonic() < deadline:
        time.sleep(0.05)
    [pids] = Path("out").glob("*/pids")
    time.sleep(0.3)
    sweep.send_signal(number)
    printed, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == status, printed
    assert "job 1" not in printed.split("overrides")[0]
    for pid in map(int, pids.read_text().split()):
        assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
