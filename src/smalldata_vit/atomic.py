"""Files that are replaced whole: a reader, or a run that was killed, finds the old one or the new one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"
"""Ending of a file that is being written; whoever owns the folder may remove one that was left over."""


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write; `path` becomes it only when the block ends well, and is what it was before otherwise.

    The temporary file lies beside the target, because a rename across file systems is a copy that a kill can cut off.
    """
    beside = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove and return what a killed process left half written; only for who holds the folder's lock."""
    left = sorted(folder.glob(f".*{UNFINISHED}"))
    for path in left:
        path.unlink(missing_ok=True)
    return left
