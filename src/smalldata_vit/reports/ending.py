"""What a command ends with: the table in the terminal and the page in the folder."""

import gc
import shlex
import sys
from pathlib import Path

from rich.console import Console

from smalldata_vit.reports.tables import show
from smalldata_vit.results import read_json


def print_table(folder: Path) -> None:
    """Print what came out."""
    show(read_json(folder / "results.json"), Console())
    page = ", report.html for people" if (folder / "report.html").exists() else ""
    print(f"everything is in {folder} (results.json is for scripts{page})", flush=True)


def draw_report(folder: Path, wanted: bool = True) -> None:
    """Write report.html where it is wanted; that it cannot be drawn is said, and fails no finished training."""
    if not wanted:
        return
    gc.disable()  # the command ends with this; a tenth of the time would go into looking for garbage
    try:
        from smalldata_vit.reports.run_page import write_run_report  # matplotlib takes a second, and is an extra

        write_run_report(folder)
    except Exception as error:
        again = f"python -m smalldata_vit.reports {shlex.quote(str(folder))}"
        needs = " (pip install matplotlib)" if isinstance(error, ImportError) else ""
        said = f"report.html was not drawn: {type(error).__name__}: {error}{needs}"
        print(f"{said}; {again} tries again", file=sys.stderr)
