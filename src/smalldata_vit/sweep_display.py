"""What a person sees of a sweep while it runs: on a terminal one table that moves, elsewhere plain lines."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smalldata_vit.live_table import LINES_AROUND, LiveTable, framed
from smalldata_vit.sweep_cells import HEADS, chosen, fitting, how_far, waits
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import Seen, Watch, final
from smalldata_vit.sweep_queue import Queue

if TYPE_CHECKING:
    from rich.table import Table


class Display(LiveTable):
    """Tells how a sweep goes. Every sentence also goes to `sweep.log` in its folder, with the time.

    Arguments:
        moves: whether a person watches: a table then takes the place of the sentences, but for what went wrong.
    """

    def __init__(self, jobs: Sequence[Planned], folder: Path, at_once: int, moves: bool) -> None:
        super().__init__(folder / "sweep.log", moves)
        self.jobs, self.at_once = list(jobs), at_once
        self.watches = {planned: Watch(planned.job.folder, planned.judged_by) for planned in self.jobs}
        self.waits: dict[Planned, str] = {}

    def look(self, queue: Queue) -> None:
        """Say who waits for whom, and let the table move on, once in a while."""
        if not self.may_look():
            return
        for planned in queue.waiting[: self.at_once - len(queue.running)]:  # those for which there would be room
            words = waits(queue, planned)
            if words and self.waits.get(planned) != words:
                self.say(f"job {planned.job.number} {words}: {planned.job.described}")
            self.waits[planned] = words
        if self.live is not None:
            width, height = self.live.console.size
            self.live.update(self.table(queue, width, height - LINES_AROUND), refresh=True)
        elif self.at_once > 1 and self.may_tell():  # one alone is shown as it goes
            for planned in queue.running:
                self.say(f"job {planned.job.number} {how_far(self.watches[planned].look())}: {planned.job.described}")

    def table(self, queue: Queue, width: int, height: int) -> "Table":
        """The jobs that run, then as many of the others as there is room for: waiting ones, and the latest to end."""
        from rich.text import Text

        shown = chosen(self.jobs, queue, max(1, height))
        layout, widths = fitting(shown, width)
        table = framed(HEADS, widths, self.foot(queue), right="job")
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
