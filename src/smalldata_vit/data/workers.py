"""Processes that decode images side by side, for as long as the one that started them asks."""

import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.resolution import Reader
from smalldata_vit.data.shared_memory import shared_memory
from smalldata_vit.data.worker import Decode, Failed, TakeMemory, TakeReader

SECONDS_FOR_AN_IMAGE = 300.0
"""A worker that says nothing for so long is taken for stopped."""
AT_ONCE = 2
"""Images that a worker has been given: it begins the next one while the answer to the last one is on its way."""


class WorkerError(RuntimeError):
    """A process that decodes images has ended or does not answer; nothing comes from the others any more."""


@dataclass(frozen=True)
class Wanted:
    """An image, and where its pixels go."""

    i: int
    offset: int
    height: int
    width: int
    file: str


class Workers:
    """Some processes that decode; which of them decodes what changes nothing.

    They are started here and end with this object, or with the process. They have to be started by a thread that
    lives as long, for the kernel ends them with it.

    Arguments:
        count: of processes.
        seconds: for one image.
    """

    def __init__(self, count: int, seconds: float = SECONDS_FOR_AN_IMAGE) -> None:
        self.seconds, self.lock, self.ended = seconds, threading.Lock(), ""
        self.members = [_Member() for _ in range(count)]
        self.readers: list[Reader] = []
        self.close = weakref.finalize(self, _end, self.members)

    def add(self, reader: Reader) -> int:
        """The number under which images of this reader can be asked for; ValueError if it cannot be sent."""
        try:
            pickle.dumps(reader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"this dataset's source cannot be sent to other processes ({error}): dataset.decoded=cache"
            ) from error
        self.readers.append(reader)
        return len(self.readers) - 1

    def read(self, reader: int, wanted: Sequence[Wanted], size: int) -> mmap.mmap:
        """The images in `size` bytes of memory. BadImage names one that cannot be read; WorkerError a lost process."""
        with self.lock, shared_memory(size) as (handle, memory):
            if self.ended:
                raise WorkerError(self.ended)
            problems: dict[int, Failed] = {}
            waiting = deque(enumerate(wanted))
            for member in self.members:
                member.handle = handle
            for member in self.members * AT_ONCE:
                self._give(member, reader, waiting, size)
            while busy := {m.connection: m for m in self.members if m.given}:
                ready = wait(list(busy), self.seconds)
                if not ready:
                    self._give_up(next(iter(busy.values())), "has not answered")
                for connection in ready:
                    member = busy[connection]  # type: ignore[index]
                    if (problem := self._answer(member)) is not None:
                        problems[problem[0]] = problem[1]
                        waiting.clear()  # what was given is waited for, so that no answer is left over
                    self._give(member, reader, waiting, size)
        if problems:
            place, failed = min(problems.items())
            raise BadImage(failed.file or wanted[place].file, failed.reason)
        return memory

    def _give(self, member: "_Member", reader: int, waiting: "deque[tuple[int, Wanted]]", size: int) -> None:
        """The next image to a worker, with what it needs to know before."""
        if not waiting:
            return
        place, one = waiting.popleft()
        member.given.append((place, one.file))
        try:
            if reader not in member.knows:
                member.connection.send(TakeReader(reader, self.readers[reader]))
                member.knows.add(reader)
            if member.handle is not None:
                member.connection.send(TakeMemory(size))
                send_handle(member.connection, member.handle, member.process.pid)
                member.handle = None
            member.connection.send(Decode(reader, one.i, one.offset, one.height, one.width))
        except ConnectionError:
            self._give_up(member, "ended")

    def _answer(self, member: "_Member") -> tuple[int, Failed] | None:
        try:
            answer = member.connection.recv()
        except (EOFError, ConnectionError):
            self._give_up(member, "ended")
        place, _ = member.given.popleft()
        return None if answer is None else (place, answer)

    def _give_up(self, member: "_Member", what: str) -> Any:
        file = member.given[0][1]
        if what == "ended":
            with suppress(subprocess.TimeoutExpired):
                what = _told(member.process.wait(10))
        else:
            what = f"{what} for {self.seconds:g} seconds"
        self.ended = (
            f"process {member.process.pid}, which decodes images, {what}; {file} was its next. The same command goes "
            "on from the last checkpoint; where memory is short, with fewer dataset.workers or dataset.shorter_side"
        )
        self.close()
        raise WorkerError(self.ended)


class _Member:
    """One process and what it has been given."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Not `-m`: orders are known by their class, and a module that is run has other ones than the same one imported.
        start = "from smalldata_vit.data.worker import main; main()"
        command = [sys.executable, "-c", start, str(theirs.fileno()), str(os.getpid())]
        # A reader may bring torch along; its threads would fight with the other workers for the same cores.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with theirs:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.knows: set[int] = set()
        self.given: deque[tuple[int, str]] = deque()
        self.handle: int | None = None
        """Of memory that it was not told of yet."""


def _told(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    reason = "; the system does that when memory runs out" if status == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{reason}"


def _end(members: Sequence[_Member]) -> None:
    for member in members:
        member.connection.close()
    for member in members:
        try:
            member.process.wait(2)
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()
