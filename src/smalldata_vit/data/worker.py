"""A process that decodes images for another one.

It reads orders from a socket, writes pixels into memory that both share, and ends when the socket does. It imports
nothing heavy by itself; what its readers are made of comes with them.
"""

import mmap
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import numpy as np

from smalldata_vit.data.decode import BadImage
from smalldata_vit.signals import LISTENED, die_with_parent


@dataclass(frozen=True)
class TakeReader:
    """Keep this reader under a number."""

    number: int
    reader: Callable[[int], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class TakeMemory:
    """Write into this many bytes, whose handle follows, from now on."""

    size: int


@dataclass(frozen=True)
class Decode:
    """Write image `i` of a reader to this place in the memory."""

    reader: int
    i: int
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class Failed:
    """The answer when an image could not be written; the answer otherwise is None."""

    file: str | None
    """None: the file that was asked for."""
    reason: str


def serve(connection: "Connection[Failed | None, object]") -> None:
    """Follow orders until there is nobody left who gives them."""
    readers: dict[int, Callable[[int], tuple[np.ndarray, int]]] = {}
    memory: mmap.mmap | None = None
    try:
        while True:
            match connection.recv():
                case TakeReader(number, reader):
                    readers[number] = reader
                case TakeMemory(size):
                    handle = recv_handle(connection)
                    memory = mmap.mmap(handle, size)
                    os.close(handle)
                case Decode() as order:
                    assert memory is not None, "memory comes before the first image"
                    connection.send(_decode(readers[order.reader], order, memory))
                case unknown:
                    raise TypeError(f"a worker knows no order {unknown!r}")
    except (EOFError, ConnectionError):
        return


def _decode(reader: Callable[[int], tuple[np.ndarray, int]], order: Decode, memory: mmap.mmap) -> Failed | None:
    try:
        picture, _ = reader(order.i)
    except BadImage as error:
        return Failed(error.file, error.reason)
    # Whatever else a source raises belongs to this image, and is told where training waits for it.
    except Exception as error:
        return Failed(None, f"{type(error).__name__}: {error}")
    shape = (order.height, order.width, 3)
    if picture.shape != shape:
        return Failed(None, f"it has {picture.shape[0]} x {picture.shape[1]} pixels, and had {shape[0]} x {shape[1]}")
    count = order.height * order.width * 3
    np.frombuffer(memory, np.uint8, count, order.offset).reshape(shape)[:] = picture
    return None


def main() -> None:
    """The process: its arguments are the handle of its socket and the number of its parent."""
    # They mean the process that trains, which saves and then ends this one; a group or a terminal sends them to all.
    for listened in LISTENED:
        signal.signal(listened, signal.SIG_IGN)
    die_with_parent(int(sys.argv[2]))
    warnings.simplefilter("ignore")  # as where all images are decoded at once: Pillow's are of files that it reads
    serve(Connection(int(sys.argv[1])))
