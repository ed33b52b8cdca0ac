"""One job of a sweep in the processes that SLURM gave it: it runs its command, and returns it to the queue to go on.

SIGUSR1 says that the time is nearly up, SIGTERM that the job is preempted or cancelled. Both go to the command, which
saves between two steps and leaves. Then rank 0 asks SLURM for another turn, unless somebody cancelled the job; the
next turn resumes from the checkpoint.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from smalldata_vit import cluster
from smalldata_vit.jobs import OF_A_SWEEP
from smalldata_vit.results import write_json

OUTCOME = "slurm.json"
"""In the job's folder: the SLURM job, its exit status, seconds of its last turn, turns before that."""
TOLD = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
STOPPED = tuple(128 + number for number in TOLD)
"""Exit statuses of a command that saved and left because of a signal."""
_RETURNED = 255


class JobFailed(RuntimeError):
    """The command ended with an error, or with a checkpoint and no further turn."""


@dataclass
class Task:
    """What every process of a SLURM job runs: the same command, which finds its rank in the environment.

    Arguments:
        command: the words of the command, the interpreter first.
        folder: of the job; rank 0's output goes to `job.log` in it.
        requeues: turns that a job gets after its first because its time was up; when preempted it always gets another.
        seconds_to_save: after a signal; a command that is not over by then is ended, and goes on from its last
            checkpoint.
    """

    command: list[str]
    folder: str
    requeues: int
    seconds_to_save: float

    def __call__(self) -> None:
        """Run the command to its end; JobFailed unless it ended well or goes on later (then SystemExit)."""
        place, began = cluster.place(os.environ), time.monotonic()
        leads = place is None or place.rank == 0
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        status, received = self._run(folder / "job.log" if leads else None)
        if not leads:
            # A rank that leaves with an error would end rank 0 before it has asked for another turn.
            if status not in (0, *STOPPED) and not received:
                raise JobFailed(f"a rank beside rank 0 ended with status {status}")
            return
        reason = self._reason(received) if status != 0 else None
        if reason is not None and not self._exhausted(reason):
            requeue(reason)
        turn = {"job": job_name(), "status": status, "seconds": time.monotonic() - began, "turns": turns_before() + 1}
        write_json(folder / OUTCOME, turn)
        if status != 0:
            limit = f"; it had {self.requeues + 1} turns (hydra.launcher.requeues)" if reason else ""
            raise JobFailed(f"exit status {status}{limit}; see {folder / 'job.log'}")

    def _run(self, log: Path | None) -> tuple[int, list[int]]:
        """The command's exit status, as a shell has it, and the signals that arrived meanwhile."""
        received: list[int] = []
        since = [0.0]
        running: list[subprocess.Popen[bytes]] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            since[0] = since[0] or time.monotonic()
            received.append(number)
            for process in running:
                process.send_signal(number)

        for number in TOLD:
            signal.signal(number, pass_on)
        environment = os.environ | {OF_A_SWEEP: str(os.getpid())}
        with log.open("ab") if log is not None else nullcontext() as file:
            process = subprocess.Popen(
                self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=None if file is None else subprocess.STDOUT,
            )
        running.append(process)
        if received:
            process.send_signal(received[0])
        while True:
            try:
                status = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if since[0] and time.monotonic() - since[0] > self.seconds_to_save:
                    process.kill()
            else:
                return (status if status >= 0 else 128 - status), received

    def _reason(self, received: Sequence[int]) -> str | None:
        """Why the command has to go on later, None if nobody wants it to."""
        if signal.SIGUSR1 in received:
            return "its time is up"
        return "it is preempted" if signal.SIGTERM in received and preempted() else None

    def _exhausted(self, reason: str) -> bool:
        return reason == "its time is up" and turns_before() >= self.requeues


def turns_before() -> int:
    """How often SLURM has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def job_name() -> str:
    """The job as SLURM's commands take it: 4711, or 4711_3 in an array."""
    local = os.environ.get("SUBMITIT_LOCAL_JOB_ID")
    if local is not None and os.environ.get("SUBMITIT_EXECUTOR") == "local":
        return local
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def preempted() -> bool:
    """Whether SLURM has preempted this job: a cancelled one gets the same signal, and must not come back."""
    if "SLURM_JOB_ID" not in os.environ:
        return False
    shown = subprocess.run(["scontrol", "show", "job", job_name()], capture_output=True, text=True, check=False)
    found = re.search(r"\bPreemptTime=(\S+)", shown.stdout)
    return found is not None and found[1] not in ("None", "N/A", "Unknown")


def requeue(reason: str) -> NoReturn:
    """Return this job to the queue and leave; JobFailed with SLURM's answer if it does not take it."""
    print(f"{job_name()} returns to the queue: {reason}", flush=True)
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

        raise SystemExit(LOCAL_REQUEUE_RETURN_CODE)
    asked = subprocess.run(["scontrol", "requeue", job_name()], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise JobFailed(
            f"{reason}, but `scontrol requeue {job_name()}` says: {(asked.stderr or asked.stdout).strip()}. The "
            f"checkpoint is kept: the same sweep command submits the job again, and it goes on from there"
        )
    raise SystemExit(_RETURNED)
