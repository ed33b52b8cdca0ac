"""An experiment by ranks that somebody else started: rank 0 alone decides what is skipped, run or resumed, and where.

The others wait, hear its orders over a socket, and start the stage that they are told, until all is over.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from smalldata_vit.cluster import ORDERS, Place
from smalldata_vit.cluster_leader import Leader, free_port, line_of, ports
from smalldata_vit.signals import LISTENED, die_with_parent
from smalldata_vit.store import FOLDER, LEADER

TOLD = (FOLDER, "SMALLDATA_VIT_RESUME", "SMALLDATA_VIT_MAX_BATCH", "MASTER_PORT")
"""What a stage's other ranks are told in their environment; nothing else is taken from an order."""
STOPPED = tuple(128 + number for number in LISTENED)
"""Exit statuses of a rank that was asked to stop: rank 0 says what follows."""
PATIENCE_SECONDS = 300.0


class LeaderGone(RuntimeError):
    """Rank 0 ended, or was never there."""


def together(place: Place, lead: Callable[[], int], follow: Callable[[str, Path], int]) -> int:
    """Run an experiment with the ranks that were started together; returns the exit status.

    `lead` is what rank 0 does; `follow` runs a stage beside it, told its name and folder.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()  # an agent that is killed ends nobody
    place.enter(os.environ)
    if place.rank > 0:
        return obey(place, follow)
    leader = Leader(place)
    os.environ[ORDERS] = leader.address
    status = 1
    try:
        status = lead()
    finally:
        leader.end(status)
    return status


def summon(stage: str) -> None:
    """In a stage of rank 0, as soon as all is decided: have the ranks beside it begin. Without such ranks nothing."""
    if ORDERS not in os.environ:
        return
    leader = json.loads(os.environ[ORDERS])
    os.environ["MASTER_PORT"] = str(free_port())
    told = {name: os.environ[name] for name in TOLD}
    with socket.create_connection(("127.0.0.1", leader["port"]), timeout=30) as connection:
        connection.sendall(line_of(leader) + line_of({"stage": stage, "told": told}))
        if connection.makefile("rb").readline() != b"heard\n":
            raise LeaderGone(f"the command that started {stage} takes no orders for the other ranks any more")


def obey(place: Place, follow: Callable[[str, Path], int]) -> int:
    """Do what rank 0 says until it says that all is over; returns the exit status.

    A rank that fails leaves at once, so that whoever started it can end the others. One that was asked to stop waits:
    rank 0 may still have to write down what was reached.
    """
    with waiting(place):
        for order in orders(place):
            if "end" in order:
                return int(order["end"])
            os.environ |= {name: str(order["told"][name]) for name in TOLD}
            os.environ |= {LEADER: str(os.getpid()), ORDERS: ""}
            status = follow(str(order["stage"]), Path(os.environ[FOLDER]))
            if status not in (0, *STOPPED):
                return status
    raise LeaderGone(f"rank 0 of {place.run} has ended without a word; what it said last stands in its own log")


def orders(place: Place) -> Iterator[dict[str, Any]]:
    """What rank 0 says, from its first word on, until it is gone."""
    with suppress(ConnectionError), connected(place) as lines:
        for line in lines:
            yield json.loads(line)


def connected(place: Place, seconds: float = PATIENCE_SECONDS) -> BinaryIO:
    """What rank 0 of the same run, and nobody else, says line by line; LeaderGone if it does not come up in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for port in ports(place.run):
            with suppress(OSError):
                found = _asked(place, port)
                if found is not None:
                    return found
        time.sleep(0.2)
    raise LeaderGone(
        f"rank {place.rank} found no rank 0 of {place.run} at {place.address}, ports {ports(place.run)}, within "
        f"{seconds:.0f} s: does it run, and may machines reach each other there?"
    )


def _asked(place: Place, port: int) -> BinaryIO | None:
    """The lines that come from there if it is rank 0 of this run that answers."""
    with socket.create_connection((place.address, port), timeout=5) as connection:
        connection.sendall(line_of({"run": place.run, "rank": place.rank}))
        lines = connection.makefile("rb")
        if lines.readline(1000) != line_of({"run": place.run}):
            lines.close()
            return None
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return lines  # keeps the connection open


@contextmanager
def waiting(place: Place) -> Iterator[None]:
    """Leave it to rank 0, which gets the same signals, what they mean while this rank has nothing to do."""

    def leave_it(number: int, frame: object) -> None:
        print(f"rank {place.rank}: signal {number}; rank 0 decides", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, leave_it) for number in LISTENED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
