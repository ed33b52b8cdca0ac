"""Signals only set a flag; the learner asks between steps. So no checkpoint is ever written in the middle of a step."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

LISTENED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

# A terminal sends Ctrl-C to all processes, and the launcher passes it on: that pair is one wish, milliseconds apart.
_ECHO_SECONDS = 0.2
_IMPATIENT_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1


class Signals:
    """Remembers the first of SIGTERM, SIGINT and SIGUSR1. A second SIGINT within two seconds ends the process at once.

    `install` puts our handlers in place, `restore` those that were there before; also usable as `with Signals() as s:`.
    Only the main thread may do either.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.interrupted_at: float | None = None
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over, from Lightning's handlers too; a second call changes nothing."""
        for number in LISTENED:
            if signal.getsignal(number) != self._remember:
                self.before[number] = signal.signal(number, self._remember)

    def restore(self) -> None:
        """Give the handlers back that were in place before; what was received stays known."""
        for number, handler in self.before.items():
            # None: the handler was not set from Python, and cannot be set again from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.before = {}

    def exit_status(self) -> int:
        """128 + the signal, as a shell has it: 143 for SIGTERM, 130 for SIGINT, 138 for SIGUSR1; 0 without a signal."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> "Signals":
        self.install()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self.interrupted_at is not None and _ECHO_SECONDS < now - self.interrupted_at <= _IMPATIENT_SECONDS:
                os._exit(128 + number)
            if self.interrupted_at is None or now - self.interrupted_at > _ECHO_SECONDS:
                self.interrupted_at = now
        if self.received is None:
            self.received = number


def die_with_parent(parent: int | None = None, number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent dies, so that no rank or stage is left over.

    The default is SIGKILL: a rank whose parent was killed waits in a collective and would never look at a flag.
    `parent`: the process that it was started by; if that died before this was called, it dies now. Linux only;
    elsewhere nothing happens. OSError if the kernel refuses.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot tie this process to its parent: {os.strerror(code)}")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def supervise(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command to its end, pass on to it what signals arrive, and return its exit status as a shell has it."""
    child = subprocess.Popen(command, env=environment)
    before = {n: signal.signal(n, lambda received, frame: child.send_signal(received)) for n in LISTENED}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status
