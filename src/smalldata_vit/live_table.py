"""What a person sees of many jobs: on a terminal a table that moves, elsewhere plain lines; a log has all of it."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

BETWEEN_LOOKS = 1.0
"""Seconds between two looks into the jobs' folders."""
BETWEEN_LINES = 60.0
"""Seconds between two lines about how far the jobs are, where no table moves."""
LINES_AROUND = 5
"""Of the table: its head, its foot (two where it is narrow), and room for the prompt."""
GAP = 2
"""Characters between two columns."""


class LiveTable:
    """Sentences and a table in their place. To be entered: it then opens the log and takes the screen.

    Arguments:
        log: file to which every sentence goes, with the time; its folder is made.
        moves: whether a person watches: the table then takes the place of the sentences, but for what went wrong.
    """

    def __init__(self, log: Path, moves: bool) -> None:
        self.file, self.moves = log, moves
        self.began = self.looked = self.told = time.monotonic()
        self.log: TextIO | None = None
        self.live: Live | None = None

    def __enter__(self) -> "LiveTable":
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.log = self.file.open("a", encoding="utf-8", errors="backslashreplace")
        if self.moves:
            from rich.live import Live

            self.live = Live(auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.live is not None:
            self.live.stop()
        if self.log is not None:
            self.log.close()

    def say(self, sentence: str, wrong: bool = False) -> None:
        """One line about one job."""
        if self.log is not None:
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")
            self.log.flush()
        if self.live is None:
            print(sentence, flush=True)
        elif wrong:
            self.live.console.print(sentence, markup=False, highlight=False)

    def may_look(self) -> bool:
        """Whether it is time for another look; if so, the next one is due after `BETWEEN_LOOKS`."""
        now = time.monotonic()
        if now - self.looked < BETWEEN_LOOKS:
            return False
        self.looked = now
        return True

    def may_tell(self) -> bool:
        """The same of lines about how far jobs are, where no table moves."""
        now = time.monotonic()
        if self.live is not None or now - self.told < BETWEEN_LINES:
            return False
        self.told = now
        return True


def framed(heads: Sequence[str], widths: Sequence[int], foot: str, right: str) -> "Table":
    """An empty table of columns that keep their widths, with lines below it; the column `right` is aligned so."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    table.caption, table.caption_justify, table.caption_style = foot, "left", ""
    for head, size in zip(heads, widths, strict=True):
        side = "right" if head == right else "left"
        table.add_column(head, justify=side, width=size, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def watched() -> bool:
    """Whether a person watches, on a terminal where a table can move."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
