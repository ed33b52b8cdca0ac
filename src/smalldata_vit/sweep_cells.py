"""The cells of the table that moves while a sweep runs: which jobs, what of each, and how wide."""

from collections.abc import Sequence
from dataclasses import dataclass

from smalldata_vit.live_table import GAP
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import Seen
from smalldata_vit.sweep_queue import Queue
from smalldata_vit.sweep_words import short_keys, shortened

HEADS = ("job", "overrides", "stage", "progress", "left", "best")
LEAST_WORDS = 10


@dataclass(frozen=True)
class Layout:
    """Widths of the columns, the same whatever stands in them, so that nothing jumps.

    Arguments:
        state: of the column that tells the stage, or for whom a job waits.
        bar: of a full bar; 0: none, just the per cent.
        left: of the time that is left.
        best: of the best value, with the name of its metric if there is room for it.
        named: whether there is.
    """

    state: int
    bar: int
    left: int
    best: int
    named: bool

    def widths(self, width: int, numbers: int) -> list[int]:
        """Of all columns in lines of `width` characters, where the jobs' numbers take up so many."""
        progress = max(len("progress"), self.bar + bool(self.bar) + len("100 %"))
        others = [self.state, progress, self.left, self.best]
        return [numbers, width - numbers - sum(others) - GAP * len(others) - GAP, *others]

    def cells(self, planned: Planned, queue: Queue, seen: Seen, best: tuple[str, float] | None, room: int) -> list[str]:
        """One line of the table; the overrides take at most `room` characters."""
        value = "" if best is None else f"{best[0]} {best[1]:.4f}" if self.named else f"{best[1]:.4f}"
        state = state_of(planned, queue, seen) if self.named else state_of(planned, queue, seen).partition("'s ")[0]
        said = shortened(planned.job.words, room)
        return [str(planned.job.number), said, state, bar(seen.share, self.bar), time_left(seen), value]


WIDE = Layout(state=26, bar=12, left=11, best=24, named=True)
NARROW = Layout(state=15, bar=0, left=11, best=8, named=False)


def fitting(shown: Sequence[Planned], width: int) -> tuple[Layout, list[int]]:
    """The wide layout if the overrides of these jobs stay readable in it, else the narrow one; and its widths."""
    numbers = max(len("job"), *(len(str(planned.job.number)) for planned in shown))
    needed = max(len(" ".join(short_keys(planned.job.words))) for planned in shown)
    layout = WIDE if WIDE.widths(width, numbers)[1] >= max(needed, LEAST_WORDS) else NARROW
    first, free, *others = layout.widths(width, numbers)
    longest = max(len(planned.job.described) for planned in shown)
    return layout, [first, max(LEAST_WORDS, min(free, longest)), *others]


def chosen(jobs: Sequence[Planned], queue: Queue, height: int) -> list[Planned]:
    """The jobs that a table of so many lines shows, in their order: those that run first of all, then failed ones,
    those next in line, and the latest of the rest."""
    failed = [planned for planned in jobs if planned.job.status not in (0, None)]
    rest = [planned for planned in reversed(jobs) if planned.job.status == 0]
    wanted = list(dict.fromkeys([*queue.running, *failed[: height // 3], *queue.waiting, *rest]))[:height]
    return sorted(wanted, key=lambda planned: planned.job.number)


def state_of(planned: Planned, queue: Queue, seen: Seen) -> str:
    """The stage of a job that runs, else what it waits for or how it ended."""
    if planned in queue.running:
        return seen.stage or "starts"
    if planned.job.status is None:
        return waits(queue, planned) or "waits"
    return planned.job.reason if planned.job.status == 0 and planned.job.reason else planned.job.outcome


def waits(queue: Queue, planned: Planned) -> str:
    """For whom a job waits, in words; empty if for nobody."""
    found = queue.awaited(planned) if planned.job.status is None else None
    return "" if found is None else f"waits for job {found[0].job.number}'s {found[1]}"


def bar(share: float | None, width: int) -> str:
    """A share between 0 and 1 as a bar of so many characters with its per cent; empty for None."""
    if share is None:
        return ""
    full = int(share * width)  # full when it is done, not before
    drawn = "━" * full + "╌" * (width - full)
    return f"{drawn} {int(100 * share):3d} %".strip()


def time_left(seen: Seen) -> str:
    """What is left to a stage, in words; empty if nobody knows."""
    from smalldata_vit.console import duration  # here, because it brings rich with it

    return "" if seen.left is None else duration(seen.left)


def how_far(seen: Seen) -> str:
    """The same as a sentence without a subject."""
    if seen.stage is None:
        return "starts"
    share = "" if seen.share is None else f" {100 * seen.share:.0f} %"
    best = "" if seen.best is None else f"best {seen.best[0]} {seen.best[1]:.4f}"
    rest = time_left(seen) and f"{time_left(seen)} left"
    return ", ".join(said for said in (f"is in {seen.stage}{share}", rest, best) if said)
