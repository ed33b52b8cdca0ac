"""Creates or updates the saved views and the report page of a W&B project; typed again, it changes what it made.

The views are made for the runs of `logger=[csv,wandb]`. What somebody changed in them by hand is replaced.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from smalldata_vit.dashboards.published import FILE, read, table
from smalldata_vit.dashboards.views import ALL

SECONDS = 30
"""That one answer of the server may take."""
NEEDS = "the dashboards need `pip install smalldata-vit[dashboards]`"


class NoDashboards(Exception):
    """They cannot be saved, in a sentence."""


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, save, say where; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m smalldata_vit.dashboards", description=__doc__)
    parser.add_argument("--entity", required=True, help="W&B's user or team")
    parser.add_argument("--project", default="smalldata-vit", help="as logger.wandb.project; smalldata-vit if left out")
    asked = parser.parse_args(words)
    try:
        save(asked.entity, asked.project)
    except NoDashboards as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def save(entity: str, project: str) -> None:
    """Save every view and the report, and print their addresses; NoDashboards says what is missing."""
    try:
        from smalldata_vit.dashboards import drawing, saving
    except ModuleNotFoundError as error:
        raise NoDashboards(f"{NEEDS} ({error})") from error
    try:
        rows = read()
    except (OSError, ValueError) as error:
        raise NoDashboards(
            f"the published numbers cannot be read ({error}): they stand in a checkout's {FILE}"
        ) from error
    drawn = [drawing.workspace(view, entity, project) for view in ALL]
    api = account(saving)
    try:
        saving.provide_project(api, entity, project)
        for view in drawn:
            print(f"{view.name}: {saving.save_view(view)}", flush=True)
        numbers = table(rows, saving.finished_runs(api, entity, project))
        page = drawing.report(numbers, ALL, entity, project)
        print(f"{page.title}: {saving.save_report(api, page)}")
    except Exception as error:  # wandb and wandb-workspaces raise their own kinds, those of requests, and bare ones
        raise NoDashboards(
            f"W&B did not take the dashboards of {entity}/{project} ({type(error).__name__}: {error}). Views that were "
            f"printed above are saved; the same command goes on"
        ) from error


def account(saving: Any) -> Any:
    """W&B's interface; NoDashboards if nobody is logged in, or the server is not to be reached."""
    try:
        return saving.logged_in(SECONDS)
    except Exception as error:
        raise NoDashboards(
            f"W&B lets nobody in ({' '.join(str(error).split()) or type(error).__name__}): type `wandb login`, or set "
            f"WANDB_API_KEY and, for a server of one's own, WANDB_BASE_URL"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
