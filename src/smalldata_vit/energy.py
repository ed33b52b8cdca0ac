"""The energy that processors took, where the kernel tells it: /sys/class/powercap/intel-rapl:N (Intel and AMD).

A counter is that of a whole package: whatever else ran on the machine meanwhile is in it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

POWERCAP = Path("/sys/class/powercap")
EVERY_SECONDS = 60.0
"""Between two readings: a counter with the usual range of 262 kJ is round in eleven minutes at 400 W."""


@dataclass(frozen=True)
class Counter:
    """One package's counter, in microjoules; after `wraps_at` it goes on from 0."""

    file: Path
    wraps_at: int

    def read(self) -> int:
        """What it stands at; OSError where it must not be read (any more)."""
        return int(self.file.read_text())


def counters(powercap: Path = POWERCAP) -> list[Counter]:
    """The counters of all packages that this process may read: without root there are mostly none."""
    found = []
    for folder in sorted(powercap.glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") > 1:
            continue  # a part of a package, which is in it already
        try:
            counter = Counter(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            counter.read()
        except (OSError, ValueError):
            continue
        found.append(counter)
    return found


class Meter:
    """Adds up what counters counted inside `with`; `joules` is None without a counter, or where reading one failed.

    Arguments:
        every_seconds: between two readings; shorter than a counter takes for its range.
    """

    def __init__(self, counters: Sequence[Counter], every_seconds: float = EVERY_SECONDS) -> None:
        self.counters, self.every_seconds = counters, every_seconds
        self.joules: float | None = 0.0 if counters else None
        self.left = threading.Event()
        self.reader = threading.Thread(target=self._read_on, daemon=True)
        self.stand: list[int] = []

    def __enter__(self) -> "Meter":
        self._add()
        if self.joules is not None:
            self.reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left.set()
        if self.reader.ident is not None:
            self.reader.join()
        self._add()

    def _read_on(self) -> None:
        while not self.left.wait(self.every_seconds):
            self._add()

    def _add(self) -> None:
        if self.joules is None:
            return
        try:
            now = [counter.read() for counter in self.counters]
        except (OSError, ValueError):
            self.joules = None
            return
        for counter, before, after in zip(self.counters, self.stand or now, now, strict=True):
            self.joules += (after - before if after >= before else after - before + counter.wraps_at) / 1e6
        self.stand = now
