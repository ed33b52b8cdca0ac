import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smalldata_vit.signals import Signals

INSTALL = """
import sys, time
from smalldata_vit.signals import Signals
signals = Signals()
signals.install()
print("ready", flush=True)
while True:
    time.sleep(0.01)
    if signals.received is not None:
        print(signals.received, flush=True)
        time.sleep(float(sys.argv[1]))
        sys.exit(signals.exit_status())
"""

PARENT = """
import subprocess, sys, time
child = "import time; from smalldata_vit.signals import die_with_parent as tie; tie(); print('tied', flush=True); "
child += "time.sleep(60)"
print(subprocess.Popen([sys.executable, "-c", child]).pid, flush=True)
time.sleep(60)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)],
    ids=lambda n: str(int(n)),
)
def test_a_signal_sets_a_flag_and_nothing_else(number: int, status: int) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.received is None
        assert signals.exit_status() == 0
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert signals.exit_status() == status
    assert signal.getsignal(number) is before


def test_the_first_signal_decides_the_exit_status() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signals.exit_status() == 143


def test_installing_twice_still_restores_what_was_there_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals()
    signals.install()
    signals.install()
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_ctrl_c_that_arrives_twice_is_one_wish() -> None:
    with start(INSTALL, "0.5") as run:
        line(run)
        run.send_signal(signal.SIGINT)
        assert line(run) == "2"
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert run.wait(10) == 130
        assert time.monotonic() - began > 0.3


def test_a_second_ctrl_c_within_two_seconds_ends_at_once() -> None:
    with start(INSTALL, "30") as run:
        line(run)
        run.send_signal(signal.SIGINT)
        assert line(run) == "2"
        time.sleep(0.4)
        run.send_signal(signal.SIGINT)
        assert run.wait(5) == 130


def test_a_child_dies_with_its_killed_parent() -> None:
    with start(PARENT) as run:
        child = int(line(run))
        assert line(run) == "tied"
        run.kill()
        ends_at = time.monotonic() + 5
        while alive(child):
            assert time.monotonic() < ends_at, "the child outlived its parent"
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """A zombie is dead, whoever forgot to wait for it."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
