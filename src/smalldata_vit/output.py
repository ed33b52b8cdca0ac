"""Folders of a run: made for one run alone, and locked while in use."""

import fcntl
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from types import TracebackType


class InUseError(RuntimeError):
    """Another process holds the lock."""


class Lock:
    """A lock on a folder or on a stage in the store, held inside `with`; the kernel frees it when its owner dies.

    Arguments:
        path: the lock file, made if missing and never removed.
        what: what is locked, as a message names it; the lock file's folder when left out.
        waits: whether to wait for the owner (a stage that another job is making) or to refuse with `InUseError`. A wait
            of more than a second is said; `waited` tells afterwards whether there was any.
    """

    def __init__(self, path: Path, what: str | None = None, waits: bool = False) -> None:
        self.path, self.what, self.waits = path, what or str(path.parent), waits
        self.waited = False
        self.handle: int | None = None

    def __enter__(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(handle)
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(owner).encode(), 0)
        except BaseException:
            os.close(handle)
            raise
        self.handle = handle
        _held.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Close this process's hold; nothing happens when there is none."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
            _held.discard(self)

    def _lock(self, handle: int) -> None:
        began, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self.waits:
                    raise InUseError(
                        f"{self.what} is in use by {holder(self.path)}; wait for its end, or take another folder"
                    ) from None
                self.waited = True
                if not said and time.monotonic() - began > 1:
                    print(f"waiting for {self.what}, which is held by {holder(self.path)}", file=sys.stderr, flush=True)
                    said = True
                time.sleep(0.1)
            else:
                return


_held: set[Lock] = set()


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


# A forked loader worker would hold the lock for seconds after its parent was killed.
os.register_at_fork(after_in_child=_release_in_child)


def holder(path: Path) -> str:
    """Who wrote the lock file last, in words."""
    try:
        owner = json.loads(path.read_text())
        return f"process {owner['pid']} on {owner['host']}, there since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not written its name yet"


def new_folder(root: Path, name: str) -> Path:
    """A folder that nobody had before: `root/<date>_<time>_<name>`, with a number behind it when that is taken.

    `mkdir` decides, so runs that start in the same second get different folders. Characters that a shell or Hydra
    would read as syntax become `-`.
    """
    root.mkdir(parents=True, exist_ok=True)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "run"
    stem, number = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{readable}", 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
