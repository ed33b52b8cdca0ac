"""What a person sees of a sweep while it runs: on a terminal one table that moves, elsewhere plain lines."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smalldata_vit.sweep_cells import GAP, HEADS, chosen, fitting, how_far, waits
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import Seen, Watch, final
from smalldata_vit.sweep_queue import Queue

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

BETWEEN_LOOKS = 1.0
"""Seconds between two looks into the jobs' folders."""
BETWEEN_LINES = 60.0
"""Seconds between two lines about how far the jobs are, where no table moves."""
LINES_AROUND = 5
"""Of the table: its head, its foot (two where it is narrow), and room for the prompt."""


class Display:
    """Tells how a sweep goes. Every sentence also goes to `sweep.log` in its folder, with the time.

    Arguments:
        moves: whether a person watches: a table then takes the place of the sentences, but for what went wrong.
    """

    def __init__(self, jobs: Sequence[Planned], folder: Path, at_once: int, moves: bool) -> None:
        self.jobs, self.at_once, self.moves = list(jobs), at_once, moves
        self.log = (folder / "sweep.log").open("a", encoding="utf-8", errors="backslashreplace")
        self.watches = {planned: Watch(planned.job.folder, planned.judged_by) for planned in self.jobs}
        self.began = self.looked = self.told = time.monotonic()
        self.live: Live | None = None
        self.waits: dict[Planned, str] = {}

    def __enter__(self) -> "Display":
        if self.moves:
            from rich.live import Live

            self.live = Live(auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.live is not None:
            self.live.stop()
        self.log.close()

    def say(self, sentence: str, wrong: bool = False) -> None:
        """One line about one job."""
        self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")
        self.log.flush()
        if self.live is None:
            print(sentence, flush=True)
        elif wrong:
            self.live.console.print(sentence, markup=False, highlight=False)

    def look(self, queue: Queue) -> None:
        """Say who waits for whom, and let the table move on, once in a while."""
        now = time.monotonic()
        if now - self.looked < BETWEEN_LOOKS:
            return
        self.looked = now
        for planned in queue.waiting[: self.at_once - len(queue.running)]:  # those for which there would be room
            words = waits(queue, planned)
            if words and self.waits.get(planned) != words:
                self.say(f"job {planned.job.number} {words}: {planned.job.described}")
            self.waits[planned] = words
        if self.live is not None:
            width, height = self.live.console.size
            self.live.update(self.table(queue, width, height - LINES_AROUND), refresh=True)
        elif self.at_once > 1 and now - self.told >= BETWEEN_LINES:  # one alone is shown as it goes
            self.told = now
            for planned in queue.running:
                self.say(f"job {planned.job.number} {how_far(self.watches[planned].look())}: {planned.job.described}")

    def table(self, queue: Queue, width: int, height: int) -> "Table":
        """The jobs that run, then as many of the others as there is room for: waiting ones, and the latest to end."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown = chosen(self.jobs, queue, max(1, height))
        layout, widths = fitting(shown, width)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        table.caption, table.caption_justify, table.caption_style = self.foot(queue), "left", ""
        for head, size in zip(HEADS, widths, strict=True):
            table.add_column(
                head, justify="right" if head == "job" else "left", width=size, no_wrap=True, overflow="ellipsis"
            )
        for planned in shown:
            running = planned in queue.running
            seen = self.watches[planned].look() if running else Seen()
            ended = final(planned.job.folder, planned.judged_by) if planned.job.status == 0 else None
            cells = layout.cells(planned, queue, seen, seen.best if running else ended, widths[1])
            table.add_row(*map(Text, cells), style="red" if planned.job.status not in (0, None) else None)
        return table

    def foot(self, queue: Queue) -> str:
        """How many jobs are where, and how long the rest may take."""
        from smalldata_vit.console import duration  # here, because it brings rich with it

        over = [planned.job for planned in self.jobs if planned.job.status is not None]
        failed = sum(job.status != 0 for job in over)
        words = [f"{len(queue.running)} running", f"{len(over) - failed} finished", f"{failed} failed"]
        words.append(f"{len(queue.waiting)} to go")
        timed = [job.seconds for job in over if job.seconds > 0 and job.status == 0]
        if timed and queue.waiting:
            rest = sum(timed) / len(timed) * (len(queue.waiting) + len(queue.running) / 2) / self.at_once
            words.append(f"about {duration(rest)} left")
        return ", ".join([*words, f"{duration(time.monotonic() - self.began)} so far"])


def watched() -> bool:
    """Whether a person watches, on a terminal where a table can move."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
