"""Jobs of a sweep in tests: a script that writes what run.py writes, in a fraction of a second and without training."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from smalldata_vit.jobs import Job
from smalldata_vit.shares import Need
from smalldata_vit.sweep_plan import Planned

STUB = """
import json, os, pathlib, signal, sys, time
from smalldata_vit.signals import die_with_parent
die_with_parent(int(os.environ["SMALLDATA_VIT_SWEEP"]))
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
ours = json.loads((folder.parent / "jobs.json").read_text())["jobs"][folder.name]

def leave(status, code):
    (folder / ".new").write_text(json.dumps({"schema": 1, "status": status, "config_hash": ours["hash"], "stages": {}}))
    (folder / ".new").rename(folder / "results.json")
    sys.exit(code)

with (folder / "starts").open("a") as file:
    file.write(f"{os.getpid()}\\n")
signal.signal(signal.SIGTERM, lambda *_: leave("interrupted", 143))
step = folder / "step"
for done in range(int(step.read_text()) if step.exists() else 0, 8):
    time.sleep(float(os.environ.get("STUB_SECONDS", "0")))
    (folder / ".step").write_text(str(done + 1))
    (folder / ".step").rename(step)
if words.get("seed") == os.environ.get("STUB_FAILS"):
    print("error: seed broke", flush=True)
    leave("failed", 1)
with (folder / "ends").open("a") as file:
    file.write("end\\n")
leave("finished", 0)
"""

DRIVER = """
import pathlib, sys
from smalldata_vit.sweeps import Sweep
seeds, at_once = int(sys.argv[2]), int(sys.argv[3])
sweep = Sweep(["method=supervised"], pathlib.Path("out"), pathlib.Path(sys.argv[1]))
sweep.launch([[f"seed={n}"] for n in range(seeds)], 0, at_once)
sys.exit(sweep.status)
"""


def stub(folder: Path) -> Path:
    """The script in place of run.py."""
    script = folder / "stub.py"
    script.write_text(STUB)
    return script


def start(folder: Path, seeds: int, at_once: int, **environment: str) -> "subprocess.Popen[str]":
    """A sweep over so many seeds, in a process of its own, into `folder/out`."""
    (folder / "driver.py").write_text(DRIVER)
    line = [sys.executable, str(folder / "driver.py"), str(stub(folder)), str(seeds), str(at_once)]
    return subprocess.Popen(
        line, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines(folder: Path, name: str) -> list[int]:
    """How many lines the file `name` has in every job's folder."""
    return [len(file.read_text().splitlines()) for file in sorted((folder / "out").glob(f"seed-*/{name}"))]


def started(folder: Path) -> list[int]:
    """The processes of all jobs that were ever started."""
    return [int(pid) for file in (folder / "out").glob("seed-*/starts") for pid in file.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def killed(sweep: "subprocess.Popen[str]", seconds: float, folder: Path, one_job: bool) -> bool:
    """kill -9 so many seconds after its first job began, for one job that runs and for the sweep itself.

    Returns when nobody is left, and says whether the sweep still ran then. A negative number of seconds counts from the
    beginning of the sweep, whatever it does by then.
    """
    before = set(started(folder))
    while seconds >= 0 and sweep.poll() is None and not set(started(folder)) - before:
        time.sleep(0.01)
    time.sleep(abs(seconds))
    running = [pid for pid in started(folder) if alive(pid)]
    fell = sweep.poll() is None
    for pid in [*running[: int(one_job)], sweep.pid]:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    sweep.communicate()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in started(folder)):
        assert time.monotonic() < deadline, "a job outlived its sweep"
        time.sleep(0.05)
    return fell


def fabricated(folder: Path, number: int, shared: dict[str, str], judged_by: dict[str, str] | None = None) -> Planned:
    """A planned job that nobody starts."""
    job = Job(number, [f"seed={number}"], [f"seed={number}"], folder / f"job{number}", folder / "run.py")
    job.folder.mkdir(parents=True, exist_ok=True)
    return Planned(job, f"hash{number}", shared, judged_by or {"finetune": "val/accuracy"}, Need(1, False))


def leave_stage(planned: Planned, name: str, **outcome: Any) -> None:
    """What a stage leaves in a job's folder."""
    place = planned.job.folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "stage.json").write_text(json.dumps(outcome))


def leave_results(planned: Planned, **results: Any) -> None:
    """The results.json of a job."""
    (planned.job.folder / "results.json").write_text(json.dumps({"schema": 1, "stages": {}} | results))
