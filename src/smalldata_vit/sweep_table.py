"""What a sweep says of its jobs at the end: a line each, and of those that failed the error and the command."""

from collections.abc import Iterable, Mapping, Sequence

from smalldata_vit.jobs import Job
from smalldata_vit.sweep_plan import Planned
from smalldata_vit.sweep_progress import final, taken
from smalldata_vit.sweep_words import end_cut, shortened

LEAST_WORDS = 20
"""Characters that a job's overrides keep on a narrow terminal; the end of the line goes first."""


def remark(planned: Planned) -> str:
    """What is worth knowing about how a job came to its end."""
    if planned.job.status == 0 and planned.job.reason is not None:
        return planned.job.reason
    stages = taken(planned.job.folder) if planned.job.status == 0 else []
    return f"{' and '.join(stages)} taken from the store" if stages else ""


def summary(jobs: Sequence[Planned], width: int | None = None) -> str:
    """How every job ended, and of those that failed the error and the command that repeats them.

    `width`: characters of a line; the table is made to fit, what one copies is not. None: as long as it is.
    """
    rows = [("job", "overrides", "status", "seconds", "judged by", "")]
    for planned in jobs:
        metric = final(planned.job.folder, planned.judged_by) if planned.job.status == 0 else None
        number = "-" if metric is None else f"{metric[0]} {metric[1]:.4f}"
        job = planned.job
        rows.append(
            (str(job.number), job.described, job.outcome, f"{job.seconds:.0f}", number, remark(planned)),
        )
    lines = aligned(rows)
    if width is not None and (over := max(map(len, lines)) - width) > 0:
        room = max(LEAST_WORDS, max(len(row[1]) for row in rows) - over)
        fitting = [shortened(planned.job.words, room) for planned in jobs]
        cut = [(row[0], words, *row[2:]) for row, words in zip(rows[1:], fitting, strict=True)]
        lines = [end_cut(line, width) for line in aligned([rows[0], *cut])]
    return "\n".join(["", *lines, *failures(planned.job for planned in jobs)])


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
