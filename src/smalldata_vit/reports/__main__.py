"""Reports of finished folders: `python -m smalldata_vit.reports FOLDER…`.

One output folder gets its report.html anew; a folder with several below it, or several folders, get one that compares
them, runs grouped by everything but the seed. Files in which results.json was kept alone are runs without curves.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from smalldata_vit.reports.records import RESULTS, find_runs
from smalldata_vit.reports.run_page import write_run_report
from smalldata_vit.reports.sweep_page import write_report

COMPARISON = "comparison.json"
"""What `reports.compare` leaves in its folder, whose arms have names of their own."""


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, write the report, say where; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m smalldata_vit.reports", description=__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="of a run, of a sweep, or with both below; or a file that keeps a results.json",
    )
    parser.add_argument("--into", type=Path, help="where several folders' report goes; the first FOLDER when left out")
    parser.add_argument("--baseline", help="words of the arm that the others are compared with: method=supervised")
    parser.add_argument("--metric", help="the number to compare by: test/accuracy, val/knn_accuracy, …")
    asked = parser.parse_args(words)
    try:
        print(write(asked.folders, asked.into, asked.baseline, asked.metric))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write(folders: Sequence[Path], into: Path | None, baseline: str | None, metric: str | None) -> Path:
    """The page's path; ValueError: nothing to report, or several runs and no folder for their report."""
    if len(folders) == 1 and (folders[0] / RESULTS).exists():
        return write_run_report(folders[0])
    if into is None and (folders[0] / RESULTS).exists():
        raise ValueError(f"{folders[0]} is a run's own folder: say with --into where the report of several goes")
    if len(folders) == 1 and (folders[0] / COMPARISON).exists() and not (baseline or metric):
        from smalldata_vit.reports.compare import write_compare_report  # composes configs, which no other report does

        return write_compare_report(folders[0], into)
    if into is None and folders[0].is_file():
        raise ValueError(f"{folders[0]} is a file: say with --into where its report goes")
    runs = [run for folder in folders for run in find_runs(folder)]
    return write_report(runs, into or folders[0], baseline, metric)


if __name__ == "__main__":
    sys.exit(main())
