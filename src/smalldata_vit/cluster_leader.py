"""Rank 0's side of what it tells the ranks that were started beside it: it takes its stages' orders and passes them on.

Whoever connects late hears everything that was said before. Nobody but rank 0's own stages knows the secret with which
an order is given, and nobody of another run gets an answer.
"""

import hashlib
import json
import secrets
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from smalldata_vit.cluster import Place, RanksError

_FIRST_PORT, _PORTS, _TRIED = 20000, 12000, 16


def ports(run: str) -> list[int]:
    """Where the orders of a run may be heard: ports that follow from its name, below those that systems hand out."""
    digest = hashlib.sha512(run.encode()).digest()
    return [_FIRST_PORT + int.from_bytes(digest[i : i + 2]) % _PORTS for i in range(0, 2 * _TRIED, 2)]


class Leader:
    """Rank 0's side: takes orders from rank 0's stages and passes them on to all the others.

    Arguments:
        place: of this process, rank 0.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.secret = place, secrets.token_hex(16)
        self.listener = self._listen()
        self.said: list[bytes] = []
        self.hearing: dict[int, socket.socket] = {}
        self.left: set[int] = set()
        self.over, self.changed = False, threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """What rank 0's stages need to give an order; only they know the secret."""
        return json.dumps({"run": self.place.run, "secret": self.secret, "port": self.listener.getsockname()[1]})

    def _listen(self) -> socket.socket:
        host = "" if self.place.nodes > 1 else "127.0.0.1"
        for port in ports(self.place.run):
            with suppress(OSError):
                return socket.create_server((host, port))
        raise RanksError(f"rank 0 finds no free port among {ports(self.place.run)} for what it tells the other ranks")

    def _accept(self) -> None:
        with suppress(OSError):  # closed, which ends the thread
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """One who connected: a stage of rank 0 with orders, another rank, or a stranger, who gets no answer."""
        with suppress(OSError, ValueError, KeyError, TypeError), connection, connection.makefile("rb") as lines:
            connection.settimeout(10)
            hello = json.loads(lines.readline(1000))
            if hello.get("run") != self.place.run:
                return
            connection.settimeout(None)
            if secrets.compare_digest(str(hello.get("secret", "")), self.secret):
                self.say(json.loads(lines.readline()))
                connection.sendall(b"heard\n")
            else:
                self._serve(int(hello["rank"]), connection)

    def _serve(self, rank: int, connection: socket.socket) -> None:
        with self.changed:
            connection.sendall(b"".join([line_of({"run": self.place.run}), *self.said]))
            self.hearing[rank] = connection
        connection.recv(1)  # nothing is ever sent: this is the other side's end
        with self.changed:
            if self.hearing.get(rank) is not connection:
                return  # it came again
            del self.hearing[rank]
            self.left.add(rank)
            self.changed.notify_all()
            if not self.over:
                print(f"rank {rank} has ended before rank 0", file=sys.stderr, flush=True)

    def say(self, order: dict[str, Any]) -> None:
        """Tell all ranks, those that connect later included."""
        line = line_of(order)
        with self.changed:
            self.said.append(line)
            for connection in self.hearing.values():
                with suppress(OSError):  # it ends, which its own thread notices
                    connection.sendall(line)

    def end(self, status: int, seconds: float = 60.0) -> None:
        """Tell all ranks that it is over, and give them so long to hear it."""
        self.over = True
        self.say({"end": status})
        others = self.place.ranks - 1
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.left) >= others, timeout=seconds):
                print(f"{others - len(self.left)} ranks did not hear that all is over", file=sys.stderr, flush=True)
        self.close()

    def close(self) -> None:
        """Hear nobody any more."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that waits there
        self.listener.close()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def line_of(data: dict[str, Any]) -> bytes:
    """What goes over the wire: one JSON object a line."""
    return json.dumps(data).encode() + b"\n"
