"""The runs of a sweep that failed: why, and what to type."""

from collections.abc import Sequence

from smalldata_vit.reports import page
from smalldata_vit.reports.records import JOB_LOG, Run


def failures(runs: Sequence[Run], places: Sequence[str], most: int) -> str:
    """Every failed run with its error and its command, those beyond `most` folded away."""
    parts = []
    for run, place in zip(runs, places, strict=True):
        if run.status == "failed":
            log = run.folder / JOB_LOG
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            said = run.results.get("error") or next(
                (line for line in reversed(lines) if line.strip()), "it left no word"
            )
            parts.append(page.paragraph(f"{place}: {said}", "warning") + page.code(run.results.get("command", "")))
    whole = "".join(parts[:most])
    return whole + (page.details(f"{len(parts) - most} more", "".join(parts[most:])) if parts[most:] else "")
