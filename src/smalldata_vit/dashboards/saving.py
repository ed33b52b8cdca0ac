"""What is asked of W&B's server: which runs have finished, which views there are, and to save ours."""

from collections.abc import Iterator
from typing import Any

import wandb
from wandb_workspaces.workspaces import internal

from smalldata_vit.dashboards.published import Run


def provide_project(api: Any, entity: str, project: str) -> None:
    """Make the project if there is none, for views belong to one."""
    if all(one.name != project for one in api.projects(entity)):
        api.create_project(project, entity)


def finished_runs(api: Any, entity: str, project: str) -> Iterator[Run]:
    """Config and summary of the runs that finished an experiment's stage."""
    wanted = {"state": "finished", "config.experiment.value": {"$exists": True}}
    for run in api.runs(f"{entity}/{project}", filters=wanted, lazy=False):
        yield Run(dict(run.config), dict(run.summary_metrics))


def save_view(view: Any) -> str:
    """Create a workspace, or replace the one of the same name; returns its address."""
    name = internal._internal_name_to_url_query_str(view._internal_name)
    try:
        view._internal_id = internal.get_view_dict(view.entity, view.project, name)["id"]
    except ValueError:  # there is none yet
        view._internal_id = ""
    return view.save().url


def save_report(api: Any, report: Any) -> str:
    """Create a report, or replace the one of the same title; returns its address."""
    before = [one for one in api.reports(f"{report.entity}/{report.project}") if one.display_name == report.title]
    if before:
        report.id = before[0].id
    return report.save().url


def logged_in(seconds: int) -> Any:
    """W&B's interface for the account of this machine; wandb.Error without one, or without a network."""
    return wandb.Api(timeout=seconds)
