"""One job of a sweep: a process of its own with a clean environment, whose output is kept in its folder."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import ClassVar

LEAKS = (
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_",
    "PL_",
    "TORCHELASTIC_",
)
"""Environment variables (or their beginnings) by which a process belongs to a process group; not for jobs."""
OF_ONE_COMMAND = ("SMALLDATA_VIT_PARENT", "SMALLDATA_VIT_FOLDER", "SMALLDATA_VIT_RESUME", "SMALLDATA_VIT_LEADER")
"""What a command tells its own stages and ranks."""
INTERRUPTED = (130, 138, 143)
"""Exit statuses of a job that saved when it was asked to leave, and goes on from there."""
OF_A_SWEEP = "SMALLDATA_VIT_SWEEP"
"""Set for jobs: they end with their sweep, even when that is killed."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Job:
    """One command of a sweep.

    Arguments:
        words: what is its own among the sweep's overrides, for people.
        overrides: everything it is started with.
    """

    number: int
    words: Sequence[str]
    overrides: Sequence[str]
    folder: Path
    script: Path
    status: int | None = None
    seconds: float = 0.0
    reason: str | None = None
    """Why it was not started, in a sentence; None for a job that was, or is still to be."""
    threads: int | None = None
    """That each of its processes had; None: as many as a command alone has."""

    _alive: ClassVar[list["Job"]] = []

    @property
    def described(self) -> str:
        """Its own overrides."""
        return " ".join(self.words) or "(as it is)"

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        if self.status == 0 and self.reason is not None:
            return "skipped"
        named = {None: "not started", 0: "finished", **dict.fromkeys(INTERRUPTED, "interrupted")}
        return "running" if self in Job._alive else named.get(self.status, f"failed ({self.status})")

    @classmethod
    def alive(cls) -> list["Job"]:
        """The jobs whose processes run now."""
        return list(cls._alive)

    def typed_command(self) -> list[str]:
        """The command as one would type it."""
        return ["python", self.script.name, *self.overrides]

    def to_repeat(self) -> str:
        """A line for a shell that does the same again, to the last bit: on a CPU, sums depend on the threads."""
        threads = "" if self.threads is None else f"{THREADS[0]}={self.threads} "
        return threads + shlex.join(self.typed_command())

    def start(self, shown: bool, threads: int | None, gpus: Sequence[str] | None = None) -> None:
        """Start the process, in a session of its own so that a terminal's Ctrl-C reaches it through us alone, and once.

        `shown`: its output goes to the terminal too; `threads`: at most so many for each of its processes, `gpus`: the
        ones that it may use; None leaves either as it is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        environment = environment_of(threads, gpus)
        self.threads = None if threads is None else int(environment[THREADS[0]])
        self.log = (self.folder / "job.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(self.script), *self.overrides],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if shown else self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        Job._alive.append(self)
        self.copier = threading.Thread(target=self._copy, daemon=True) if shown else None
        if self.copier is not None:
            self.copier.start()

    def _copy(self) -> None:
        """Output to the log and to the terminal, as it comes."""
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self.log.write(chunk)
            self.log.flush()
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()

    def ended(self) -> bool:
        """Whether the process is over; then nothing it started is left."""
        returned = self.process.poll()
        if returned is None:
            return False
        self._kill_group()
        if self.copier is not None:
            self.copier.join(timeout=10)
        self.log.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.status = returned if returned >= 0 else 128 - returned
        self.seconds = time.monotonic() - self.began
        Job._alive.remove(self)
        return True

    def tell(self, number: int) -> None:
        """Pass a signal on to the job's own process, which tells its stages."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the process and everything it started, at once."""
        self._kill_group()
        self.process.wait()
        if self in Job._alive:
            self.ended()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """Its error: why it was not started, else the last error in its log, else the log's last line."""
        if self.reason is not None:
            return self.reason
        file = self.folder / "job.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if line.startswith("error:")]
        return (errors or said or ["it said nothing"])[-1]


@contextlib.contextmanager
def listening(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `receive` have Ctrl-C and SIGTERM in place of this process; at the end no job of ours is left."""
    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for job in Job.alive():
            job.kill()


def environment_of(threads: int | None, gpus: Sequence[str] | None = None) -> dict[str, str]:
    """This process's environment without what ties it to a process group, marked as a job's, with its share.

    Where the environment already asks for fewer threads than `threads`, it is left at that.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LEAKS) and k not in OF_ONE_COMMAND}
    shared = {} if threads is None else {name: str(_fewer(kept.get(name, ""), threads)) for name in THREADS}
    if gpus is not None:
        # Numbers mean what nvidia-smi means by them, unless somebody chose others before us.
        shared |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        shared |= {} if "CUDA_VISIBLE_DEVICES" in kept else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return kept | shared | {OF_A_SWEEP: str(os.getpid())}


def _fewer(asked: str, threads: int) -> int:
    return min(int(asked), threads) if asked.isdigit() and int(asked) > 0 else threads
