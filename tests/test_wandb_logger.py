import importlib.util
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smalldata_vit import wandb_logger
from smalldata_vit.wandb_logger import Wandb

TRAIN = """
import sys, time
from pathlib import Path
from smalldata_vit.wandb_logger import Wandb
run = Wandb(Path(sys.argv[1]), "pretrain", "g", {}, project="p", entity=None, tags=[])
for step in range(30):
    run.log_metrics({"train/loss": 1.0}, step)
while not list(Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")):
    time.sleep(0.05)
print("logged", run.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="smalldata_vit")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def start(folder: Path, finish_seconds: float = 60.0) -> Wandb:
    config = {"epochs": 3, "api_key": "planted"}
    where = {"project": "small", "entity": None}
    return Wandb(folder, "pretrain", "dino_digits", config, **where, tags=["a"], finish_seconds=finish_seconds)


def inspected(folder: Path) -> dict[str, Any]:
    """What wandb's own reader finds in the newest offline run."""
    run = max(folder.glob("wandb/offline-run-*"))
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)


def test_without_a_key_the_run_is_offline_says_so_and_holds_every_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = start(tmp_path)
    for step in range(20):
        run.log_metrics({"train/loss": 1 / (step + 1), "train/odd": math.nan}, step)
    run.finalize("success")
    run.log_metrics({"test/accuracy": 0.75}, 20)
    run.close()
    run.close()
    (said,) = caplog.messages
    assert said.startswith("W&B: offline (No API key configured")
    assert f"wandb sync {tmp_path}/wandb/offline-run-" in said
    found = inspected(tmp_path)
    assert (found["project"], found["name"], found["tags"]) == ("small", "dino_digits pretrain", ["a"])
    assert (found["state"], found["exit_code"], found["run_id"]) == ("finished", 0, run.version)
    assert (found["summary"]["test/accuracy"], found["summary"]["step"]) == (0.75, 20)
    assert found["config"]["epochs"] == 3
    assert not any(b"planted" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.fixture
def nobody(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a host that refuses connections, or of one that takes them and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("nobody", ["refuses", pytest.param("silent", marks=pytest.mark.slow)], indirect=True)
def test_an_unreachable_host_costs_no_training_time_and_ends_offline(
    nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", nobody)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "6")
    began = time.monotonic()
    run = start(tmp_path)
    for step in range(1000):
        run.log_metrics({"train/loss": 1.0}, step)
    assert time.monotonic() - began < 5  # on a busy machine; who waits for the host waits six
    run.finalize("failed")
    began = time.monotonic()
    run.close()
    assert time.monotonic() - began < run.finish_seconds + 5
    assert caplog.messages[0].startswith("W&B: offline (")
    found = inspected(tmp_path)
    assert (found["summary"]["step"], found["exit_code"]) == (999, 1)


def test_a_stage_that_goes_on_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_logger, "start_process", silent_process)
    first, second = start(tmp_path), start(tmp_path)
    assert first.version == second.version
    for run in (first, second):
        run.close()


def silent_process(folder: Path, temporary: Path, code: str = "import sys; list(sys.stdin)") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_process_that_hangs_is_left_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_logger, "ROWS_IN_WAITING", 100)
    monkeypatch.setattr(
        wandb_logger, "start_process", lambda *folders: silent_process(*folders, code="import time; time.sleep(60)")
    )
    run = start(tmp_path, finish_seconds=1.0)
    began = time.monotonic()
    for step in range(5000):
        run.log_metrics({f"train/{i}": 1.0 for i in range(20)}, step)
    run.close()
    assert time.monotonic() - began < 5
    assert run.process.returncode == -signal.SIGKILL
    assert not run.temporary.exists()
    assert "W&B did not finish within 1 s and was left" in caplog.text
    assert "metrics.csv has them all" in caplog.text


def test_a_process_that_dies_is_said_once_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_logger, "start_process", silent_process)
    run = start(tmp_path)
    run.process.kill()
    run.process.wait()
    wait_for(lambda: caplog.messages)
    monkeypatch.setattr(run.waiting, "maxsize", 50)
    for step in range(100):
        run.log_metrics({"train/loss": 1.0}, step)
    began = time.monotonic()
    run.close()
    assert time.monotonic() - began < 5
    assert caplog.messages[0] == "W&B ended on its own; training goes on, and metrics.csv has every number"
    assert "rows; metrics.csv has them all" in caplog.messages[1]


def test_killing_wandbs_own_service_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = start(tmp_path)
    run.log_metrics({"train/loss": 1.0}, 0)
    service = wait_for(lambda: services(run.process.pid) if caplog.messages else [])[0]
    assert any(run.temporary.iterdir())
    os.kill(service, signal.SIGKILL)
    for step in range(1, 50):
        run.log_metrics({"train/loss": 1.0}, step)
        time.sleep(0.01)
    began = time.monotonic()
    run.close()
    assert time.monotonic() - began < 30
    assert any("metrics.csv has every number" in message for message in caplog.messages)
    assert not run.temporary.exists()


@pytest.mark.slow
def test_a_training_that_is_killed_leaves_its_rows_and_no_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", TRAIN, tmp_path], stdout=subprocess.PIPE, text=True) as train:
        assert train.stdout is not None
        writer = int(train.stdout.readline().split()[1])
        train.kill()
    wait_for(lambda: not Path(f"/proc/{writer}/cmdline").exists() or not Path(f"/proc/{writer}/cmdline").read_bytes())
    found = inspected(tmp_path)
    assert (found["summary"]["step"], found["exit_code"]) == (29, 1)


def services(pid: int) -> list[int]:
    """Children of a process that are wandb's service."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for(what: Any) -> Any:
    ends_at = time.monotonic() + 25
    while not (found := what()):
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_the_training_process_does_not_import_wandb() -> None:
    source = Path(str(importlib.util.find_spec("smalldata_vit.wandb_logger").origin)).read_text()  # type: ignore[union-attr]
    assert "import wandb" not in source
