"""What a person sees of a sweep: on a terminal one table that moves, elsewhere plain lines; at the end all jobs."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smalldata_vit.jobs import Job
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import Seen, Watch, final, taken
from smalldata_vit.sweep_queue import Queue

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

BETWEEN_LOOKS = 1.0
"""Seconds between two looks into the jobs' folders."""
BAR = 12
"""Characters of a full bar."""
LINES_AROUND = 6
"""Of the table: its head, its foot, and room for the prompt."""


class Display:
    """Tells how a sweep goes. Every sentence also goes to `sweep.log` in its folder, with the time.

    Arguments:
        moves: whether a person watches: a table then takes the place of the sentences, but for what went wrong.
    """

    def __init__(self, jobs: Sequence[Planned], folder: Path, at_once: int, moves: bool) -> None:
        self.jobs, self.at_once, self.moves = list(jobs), at_once, moves
        self.log = (folder / "sweep.log").open("a", encoding="utf-8", errors="backslashreplace")
        self.watches = {planned: Watch(planned.job.folder, planned.judged_by) for planned in self.jobs}
        self.began = self.looked = time.monotonic()
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
        if time.monotonic() - self.looked < BETWEEN_LOOKS:
            return
        self.looked = time.monotonic()
        for planned in queue.waiting[: self.at_once - len(queue.running)]:  # those for which there would be room
            words = waits(queue, planned)
            if words and self.waits.get(planned) != words:
                self.say(f"job {planned.job.number} {words}: {planned.job.described}")
            self.waits[planned] = words
        if self.live is not None:
            self.live.update(self.table(queue, self.live.console.size.height - LINES_AROUND), refresh=True)

    def table(self, queue: Queue, height: int) -> "Table":
        """The jobs that run, then as many of the others as there is room for: waiting ones, and the latest to end."""
        from rich.table import Table

        table = Table(caption=self.foot(queue), caption_justify="left", expand=True)
        for head in ("job", "overrides", "stage", "progress", "left", "best"):
            table.add_column(head, justify="right" if head == "job" else "left", no_wrap=True, overflow="ellipsis")
        for planned in chosen(self.jobs, queue, max(1, height)):
            running = planned in queue.running
            seen = self.watches[planned].look() if running else Seen()
            state = seen.stage or "starts" if running else waits(queue, planned) or planned.job.outcome
            best = seen.best if running else self.ended_with(planned)
            table.add_row(
                str(planned.job.number),
                planned.job.described,
                state,
                bar(seen.share) if running else "",
                seen.left or "",
                "" if best is None else f"{best[0]} {best[1]:.4f}",
            )
        return table

    def ended_with(self, planned: Planned) -> tuple[str, float] | None:
        """The metric of a job that is finished."""
        return final(planned.job.folder, planned.judged_by) if planned.job.status == 0 else None

    def foot(self, queue: Queue) -> str:
        """How many jobs are where, and how long the rest may take."""
        over = [planned.job for planned in self.jobs if planned.job.status is not None]
        failed = sum(job.status != 0 for job in over)
        words = [f"{len(queue.running)} running", f"{len(over) - failed} finished", f"{failed} failed"]
        words.append(f"{len(queue.waiting)} to go")
        timed = [job.seconds for job in over if job.seconds > 0]
        if timed and queue.waiting:
            rest = sum(timed) / len(timed) * (len(queue.waiting) + len(queue.running) / 2) / self.at_once
            words.append(f"about {rest / 60:.0f} min left")
        return ", ".join([*words, f"{(time.monotonic() - self.began) / 60:.0f} min so far"])


def waits(queue: Queue, planned: Planned) -> str:
    """For whom a job waits, in words; empty if for nobody."""
    found = queue.awaited(planned) if planned.job.status is None else None
    return "" if found is None else f"waits for job {found[0].job.number}'s {found[1]}"


def chosen(jobs: Sequence[Planned], queue: Queue, height: int) -> list[Planned]:
    """The jobs that a table of so many lines shows, in their order: those that run first of all, then failed ones,
    those next in line, and the latest of the rest."""
    failed = [planned for planned in jobs if planned.job.status not in (0, None)]
    rest = [planned for planned in reversed(jobs) if planned.job.status == 0]
    wanted = list(dict.fromkeys([*queue.running, *failed[: height // 3], *queue.waiting, *rest]))[:height]
    return sorted(wanted, key=lambda planned: planned.job.number)


def bar(share: float | None) -> str:
    """A share between 0 and 1 as a bar with its per cent; empty for None."""
    if share is None:
        return ""
    full = round(share * BAR)
    return f"{'━' * full}{'╌' * (BAR - full)} {100 * share:3.0f} %"


def watched() -> bool:
    """Whether a person watches."""
    return sys.stdout.isatty()


def remark(planned: Planned) -> str:
    """What is worth knowing about how a job came to its end."""
    if planned.job.status == 0 and planned.job.reason is not None:
        return planned.job.reason
    stages = taken(planned.job.folder) if planned.job.status == 0 else []
    return f"{' and '.join(stages)} taken from the store" if stages else ""


def summary(jobs: Sequence[Planned]) -> str:
    """How every job ended, and of those that failed the error and the command that repeats them."""
    rows = [("job", "overrides", "status", "seconds", "judged by", "")]
    for planned in jobs:
        metric = final(planned.job.folder, planned.judged_by) if planned.job.status == 0 else None
        number = "-" if metric is None else f"{metric[0]} {metric[1]:.4f}"
        job = planned.job
        rows.append(
            (str(job.number), job.described, job.outcome, f"{job.seconds:.0f}", number, remark(planned)),
        )
    return "\n".join(["", *aligned(rows), *failures(planned.job for planned in jobs)])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines, the columns below each other; the first and the fourth are numbers."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    sides = [f"{'>' if place in (0, 3) else '<'}{width}" for place, width in enumerate(widths)]
    return ["  ".join(f"{text:{side}}" for text, side in zip(row, sides, strict=True)).rstrip() for row in rows]


def failures(jobs: Iterable[Job]) -> list[str]:
    """Of every job that failed its error and its command; an error that many share is told once."""
    by_error: dict[str, list[Job]] = {}
    for job in jobs:
        if job.status not in (0, None):
            by_error.setdefault(f"{job.outcome}: {job.last_words()}", []).append(job)
    lines = []
    for error, hit in by_error.items():
        numbers = ", ".join(str(job.number) for job in hit)
        lines.append(f"\njob{'s' if len(hit) > 1 else ''} {numbers} {error}")
        lines += [f"  to repeat it: {job.to_repeat()}" for job in hit]
    return lines


def counted(found: Mapping[str, int]) -> str:
    """`3 finished before, 1 interrupted`: what earlier commands left."""
    return ", ".join(f"{number} {what}" for what, number in found.items() if number)
