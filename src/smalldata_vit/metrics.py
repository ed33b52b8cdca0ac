"""`metrics.csv`: every number of a stage in one append-only file that survives kill -9."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from smalldata_vit.atomic import replaced

HEADER = ("step", "epoch", "seconds", "name", "value")


class Row(NamedTuple):
    """One number: optimizer steps taken, epochs as a real number, seconds the stage has run, name, value."""

    step: int
    epoch: float
    seconds: float
    name: str
    value: float


class MetricsFile:
    """The long-form file `step,epoch,seconds,name,value`; only the process that writes checkpoints opens it.

    Each `write` is one system call to the end of the file, so a kill loses no row that was written before it. A last
    line that a kill or a full disk cut off is removed when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_lines(path)
        if path.exists() and len(whole) != path.stat().st_size:
            with replaced(path) as file:
                file.write(whole)
        self.handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if not whole:
            self._append(_lines([HEADER]))

    def write(self, step: int, epoch: float, seconds: float, values: Mapping[str, float]) -> None:
        """Append one row per number; a number that is not finite stands as `nan`, `inf` or `-inf`."""
        self._append(_lines(_fields(Row(step, epoch, seconds, name, float(v))) for name, v in values.items()))

    def cut(self, step: int) -> int:
        """Drop the rows of steps after `step`, which are going to be done again; returns how many were dropped."""
        rows = read_metrics(self.path)
        kept = [row for row in rows if row.step <= step]
        if len(kept) < len(rows):
            with replaced(self.path) as file:
                file.write(_lines([HEADER, *map(_fields, kept)]))
            os.close(self.handle)
            self.handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return len(rows) - len(kept)

    def close(self) -> None:
        """Close the file; closing it twice does no harm."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def _append(self, block: bytes) -> None:
        while block:
            block = block[os.write(self.handle, block) :]


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics file in the order of writing, without a torn last line; ValueError naming a bad line."""
    text = _whole_lines(path).decode()
    rows = []
    for number, fields in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
        if number == 1 and tuple(fields) == HEADER:
            continue
        try:
            step, epoch, seconds, name, value = fields
            rows.append(Row(int(step), float(epoch), float(seconds), name, float(value)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {','.join(fields)!r} is not {','.join(HEADER)}") from error
    return rows


def _fields(row: Row) -> Sequence[object]:
    return (row.step, f"{row.epoch:.6g}", f"{row.seconds:.3f}", row.name, repr(row.value))


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _whole_lines(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]
