"""Memory that several processes write into, without a name that a killed one could leave behind."""

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shared_memory(size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """Memory without a name, and its handle for other processes: it is free when the last of them is done with it."""
    if sys.platform.startswith("linux"):
        handle = os.memfd_create("decoded images")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    try:
        os.ftruncate(handle, size)
        yield handle, mmap.mmap(handle, size)
    finally:
        os.close(handle)
