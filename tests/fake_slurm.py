"""SLURM's commands, played on one machine: sbatch, srun, scontrol and squeue are this file under their names.

What was submitted is run at once, every array task a tree of processes of its own, whose tasks on "another machine"
are processes here. Everything that was asked for stands in the folder `FAKE_SLURM`.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("sbatch", "srun", "scontrol", "squeue", "scancel")


def state() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def install(folder: Path) -> dict[str, str]:
    """The commands in `folder/bin`; what to put into the environment so that they are found."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name in NAMES:
        file = commands / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n')
        file.chmod(0o755)
    return {"FAKE_SLURM": str(folder), "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}


def asked_of(script: Path) -> dict[str, str]:
    """The options of an sbatch script, `#SBATCH --requeue` as an empty text."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE)
    return {name: " ".join(shlex.split(value)) for name, value in found}


def said(name: str) -> list[str]:
    """Command lines that one of the commands was called with."""
    file = Path(os.environ["FAKE_SLURM"]) / f"{name}.calls"
    return file.read_text().splitlines() if file.exists() else []


def sbatch(script: str) -> None:
    number = 4711 + len(list(state().glob("submitted_*")))
    kept = state() / f"submitted_{number}.sh"
    kept.write_text(Path(script).read_text())
    asked = asked_of(kept)
    tasks = range(int(asked["array"].split("%")[0].split("-")[1]) + 1) if "array" in asked else [None]
    if not (state() / "hold").exists():
        for task in tasks:
            line = [sys.executable, __file__, "slurmd", str(number), "-" if task is None else str(task)]
            with (state() / "slurmd.log").open("ab") as log:
                subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    for task in tasks:
        (state() / f"alive_{number}{'' if task is None else f'_{task}'}").write_text(asked["job-name"])
    print(f"Submitted batch job {number}")


def slurmd(number: str, task: str) -> None:
    """Run one job, and again as often as it is requeued."""
    name = number if task == "-" else f"{number}_{task}"
    script = state() / f"submitted_{number}.sh"
    asked = asked_of(script)
    nodes, per_node = int(asked["nodes"]), int(asked["ntasks-per-node"])
    own = {
        "SLURM_JOB_ID": str(int(number) * 100 + int(task if task != "-" else 0)),
        "SLURM_JOB_NAME": asked["job-name"],
        "SLURM_NTASKS": str(nodes * per_node),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": "localhost" if nodes == 1 else "localhost,127.0.0.1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    if task != "-":
        own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}
    else:
        own |= {"SLURM_JOB_ID": number}
    turns = 0
    while True:
        restarted = {"SLURM_RESTART_COUNT": str(turns)} if turns else {}
        status = subprocess.run(["bash", str(script)], env=os.environ | own | restarted, check=False).returncode
        (state() / "ends").open("a").write(f"{name} {status}\n")
        marker = state() / f"requeue_{name}"
        if not marker.exists():
            break
        marker.unlink()
        turns += 1
    (state() / f"alive_{name}").unlink()


def srun(*words: str) -> None:
    """Start the tasks, each with its place; the first bad end kills the others, as --kill-on-bad-exit has it."""
    options = [word for word in words if word.startswith("--")]
    start = words.index(sys.executable)
    output = words[words.index("--output") + 1]
    nodes, ranks = int(os.environ["SLURM_JOB_NUM_NODES"]), int(os.environ["SLURM_NTASKS"])
    per_node = ranks // nodes
    tasks = []
    for rank in range(ranks):
        own = {
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(ranks),
            "SLURM_STEP_TASKS_PER_NODE": f"{per_node}(x{nodes})" if nodes > 1 else str(per_node),
            "SLURM_STEP_NODELIST": os.environ["SLURM_JOB_NODELIST"],
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank % per_node),
            "SLURM_NODEID": str(rank // per_node),
        }
        name = "_".join(filter(None, map(os.environ.get, ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))))
        file = output.replace("%A_%a", name).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", str(rank))
        with Path(file).open("ab") as log:
            line = subprocess.Popen(words[start:], env=os.environ | own, stdout=log, stderr=log, start_new_session=True)
        tasks.append(line)
        (state() / f"task_{name or os.environ['SLURM_JOB_ID']}_{rank}").write_text(str(line.pid))
    while any(task.poll() is None for task in tasks):
        if "--kill-on-bad-exit=1" in options and any(task.poll() not in (None, 0) for task in tasks):
            time.sleep(1)
            for task in tasks:
                if task.poll() is None:
                    os.killpg(task.pid, signal.SIGKILL)
        time.sleep(0.05)
    sys.exit(max(abs(task.returncode) for task in tasks))


def scontrol(*words: str) -> None:
    if words[0] == "requeue":
        if (state() / "refuse").exists():
            sys.exit("Requested operation is presently disabled for job")
        (state() / f"requeue_{words[1]}").touch()
    elif words[:2] == ("show", "job"):
        preempted = "2026-11-21T18:00:00" if (state() / "preempted").exists() else "None"
        print(f"JobId=1 JobName=x\n   PreemptEligibleTime=2026-11-21T17:00:00 PreemptTime={preempted}\n")


def squeue(*words: str) -> None:
    names = [word.removeprefix("--name=") for word in words if word.startswith("--name=")]
    found = [file for file in state().glob("alive_*") if not names or file.read_text() in names]
    print("\n".join(file.name.removeprefix("alive_") for file in found))


def scancel(name: str) -> None:
    """SIGTERM for every process of a job's tasks; a job that still waits is gone."""
    tasks = list(state().glob(f"task_{name}_*"))
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(task.read_text()), signal.SIGTERM)
    if not tasks:
        (state() / f"alive_{name}").unlink(missing_ok=True)


def wait_until_idle(folder: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while list(folder.glob("alive_*")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{sorted(folder.glob('alive_*'))} after {seconds} s")
        time.sleep(0.05)


if __name__ == "__main__":
    _, command, *given = sys.argv
    if command != "slurmd":
        with (state() / f"{command}.calls").open("a") as calls:
            calls.write(shlex.join(given) + "\n")
    {function.__name__: function for function in (sbatch, srun, scontrol, squeue, scancel, slurmd)}[command](*given)
