import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smalldata_vit.output import InUseError, Lock, new_folder

HOLD = """
import sys, time
from pathlib import Path
from smalldata_vit.output import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""

RACE = """
import sys, time
from pathlib import Path
from smalldata_vit.output import new_folder
time.sleep(max(0, float(sys.argv[2]) - time.time()))
print(new_folder(Path(sys.argv[1]), "dino_digits"))
"""


def test_twenty_runs_in_the_same_second_get_twenty_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "outputs", "dino_digits"), range(20)))
    assert len(set(folders)) == 20
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.slow
def test_twenty_processes_in_the_same_second_get_twenty_folders(tmp_path: Path) -> None:
    at = str(time.time() + 5)
    runs = [subprocess.Popen([sys.executable, "-c", RACE, tmp_path, at], stdout=subprocess.PIPE) for _ in range(20)]
    assert len({run.communicate(timeout=60)[0] for run in runs}) == 20


def test_a_folder_name_holds_nothing_that_a_shell_or_hydra_reads(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, "lr=0.1,wd=[1 2]/../ü")
    assert folder.parent == tmp_path
    assert not set("=,[]/ ü") & set(folder.name)


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / ".lock", "30"], stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout is not None
            first.stdout.readline()
            with pytest.raises(InUseError, match=rf"{tmp_path} is in use by process {first.pid} on "):
                Lock(tmp_path / ".lock").__enter__()
        finally:
            first.kill()
    with Lock(tmp_path / ".lock"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_shared_stage_is_waited_for_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", HOLD, tmp_path / ".lock", "1.6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with Lock(tmp_path / ".lock", what="the stage pretrain", waits=True) as lock:
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1
            assert said[0].startswith(f"waiting for the stage pretrain, which is held by process {first.pid}")
            assert lock.waited


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_its_dead_parents_lock(tmp_path: Path) -> None:
    path, ready = tmp_path / ".lock", tmp_path / "child"
    parent = os.fork()
    if parent == 0:
        lock = Lock(path)
        lock.__enter__()
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        ready.write_text(str(child))
        time.sleep(30)
        os._exit(0)
    while not ready.exists() or not ready.read_text():
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with Lock(path):
            pass
    finally:
        os.kill(int(ready.read_text()), signal.SIGKILL)
