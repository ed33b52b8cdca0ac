"""What a person sees of a run: one console, one log, and how far long work has come."""

import logging
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smalldata_vit.results import redacted

SECONDS_BETWEEN_LINES = 10.0
NUMBERS_SHOWN = 4

_LISTENED = ("smalldata_vit", "lightning.pytorch", "lightning.fabric", "py.warnings")


@cache
def console() -> Console:
    """The one console; a bar and a log line that share it do not tear each other."""
    return Console(highlight=False, soft_wrap=True)


def on_terminal() -> bool:
    """Whether a person watches, so that bars can move."""
    return sys.stdout.isatty() and not console().is_dumb_terminal


class Reporter:
    """Shows how far long work has come: a bar with the time left on a terminal, else a line every ten seconds or so.

    Arguments:
        total: how many units the work has.
        unit: what they are, in the singular.
        title: what the work is.
    """

    def __init__(self, total: int, unit: str, title: str) -> None:
        self.total, self.unit, self.title = total, unit, title
        self.first: tuple[int, float] | None = None
        self.said_at, self.done, self.said = time.monotonic(), 0, -1
        self.words = ""
        self.bar = _bar() if on_terminal() else None
        self.task = self.bar.add_task(title, total=total, words="") if self.bar else None
        if self.bar:
            self.bar.start()

    def advance(self, done: int, numbers: Mapping[str, float]) -> None:
        """`done` units are behind us, a resumed stage's earlier ones included; the first numbers stand beside it."""
        now = time.monotonic()
        if self.first is None:
            self.first = (done, now)
        few = list(numbers.items())[:NUMBERS_SHOWN]
        self.done, self.words = done, "  ".join(f"{_short(name)} {value:.4g}" for name, value in few)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, words=self.words)
        elif now - self.said_at >= SECONDS_BETWEEN_LINES:
            self._say(now)

    def close(self) -> None:
        """End the display; without a terminal the last state is said if it was not yet."""
        if self.bar is not None:
            self.bar.stop()
        elif self.first is not None and self.said != self.done:
            self._say(time.monotonic())

    def left(self, now: float) -> float | None:
        """Seconds still to go at the pace since the first report, None while there is no pace."""
        if self.first is None or self.done <= self.first[0]:
            return None
        return (now - self.first[1]) / (self.done - self.first[0]) * (self.total - self.done)

    def _say(self, now: float) -> None:
        left = self.left(now)
        rest = "" if left is None or self.done >= self.total else f", {duration(left)} left"
        share = 100 * self.done / self.total if self.total else 100.0
        words = f": {self.words}" if self.words else ""
        line = f"{self.title}: {self.unit} {self.done}/{self.total} ({share:.0f} %{rest}){words}"
        console().print(line, markup=False)
        self.said_at, self.said = now, self.done


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def set_up_log(path: Path | None) -> None:
    """Send the program's log to the console and, with times, to a file; in place of an earlier set-up of ours.

    For rank 0; other ranks call it with None, and say only what is an error.
    """
    shown = _OnConsole()
    handlers: list[logging.Handler] = [shown]
    if path is None:
        shown.setLevel(logging.ERROR)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
        shown.setLevel(logging.INFO)
    for name in _LISTENED:
        logger = logging.getLogger(name)
        for old in list(logger.handlers):
            logger.removeHandler(old)
            old.close()
        for handler in handlers:
            handler.addFilter(_without_secrets)
            logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("smalldata_vit").setLevel(logging.DEBUG)
    logging.captureWarnings(True)


class _OnConsole(logging.Handler):
    """Lines on the one console, above a bar when there is one; what libraries remark is in the log file only."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("smalldata_vit") and record.levelno < logging.ERROR:
            return
        text = self.format(record)
        console().print(
            text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}", markup=False
        )


def _without_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[words]}"), console=console())


def _short(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1]
