"""From our words to W&B's objects: workspaces and the report page. Nothing is sent."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of how wandb-workspaces declares its own models
    from wandb_workspaces import workspaces as untyped_workspaces
    from wandb_workspaces.reports import v2 as untyped_reports

from smalldata_vit.dashboards.panels import Bars, Dots, Lines, Media, Panel, View

reports: Any = untyped_reports
workspaces: Any = untyped_workspaces

AXES = {"step": "step", "time": "RelativeTime(Process)"}
"""`step` is the number of our own that every row has: it goes on where a stage is resumed."""
COLUMNS = 3
TITLE = "Published numbers and ours"


def workspace(view: View, entity: str, project: str) -> Any:
    """A view as W&B's workspace, under a name of its own that is the same every time."""
    config = workspaces.Config
    filters = [config("stage").isin(list(view.stages))]
    filters += [config(label) != value for label, value in view.others_than.items()]
    filters += [workspaces.Metric("State") == "finished"] if view.finished else []
    sections = [
        workspaces.Section(
            name=section.name,
            is_open=True,
            panels=[panel(one, number) for number, one in enumerate(section.panels)],
            layout_settings=workspaces.SectionLayoutSettings(columns=COLUMNS, rows=-(-len(section.panels) // COLUMNS)),
        )
        for section in view.sections
    ]
    made = workspaces.Workspace(
        entity=entity,
        project=project,
        name=view.name,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(*filters),
            groupby=[config(label) for label in view.group_by],
            pinned_columns=columns(view),
        ),
    )
    made._internal_name = internal_name(view.name)
    return made


def columns(view: View) -> list[str]:
    """What the list of runs begins with: final numbers, then labels."""
    return [
        "run:displayName",
        *(f"summary:{key}" for key in view.columns),
        *(f"config:{label}.value" for label in view.labels),
    ]


def panel(one: Panel, number: int) -> Any:
    """W&B's panel, the `number`-th of its section."""
    layout = reports.Layout(x=8 * (number % COLUMNS), y=6 * (number // COLUMNS), w=8, h=6)
    match one:
        case Lines():
            return reports.LinePlot(
                title=one.title,
                x=AXES[one.over],
                y=list(one.keys),
                log_y=one.log or None,
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                layout=layout,
            )
        case Bars():
            return reports.BarPlot(
                title=one.title,
                metrics=[reports.SummaryMetric(one.key)],
                groupby=reports.Config(one.by),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                layout=layout,
            )
        case Dots():
            over, key = (reports.SummaryMetric(name) for name in (one.over, one.key))
            return reports.ScatterPlot(title=one.title, x=over, y=key, log_x=one.log_over or None, layout=layout)
        case Media():
            return reports.MediaBrowser(title=one.title, media_keys=[one.key], layout=layout)


def internal_name(name: str) -> str:
    """W&B's name of a view; made of ours, so that a second call finds what the first one saved."""
    return f"nw-{hashlib.sha256(f'smalldata-vit {name}'.encode()).hexdigest()[:11]}-v"


def report(table: str, views: Sequence[View], entity: str, project: str) -> Any:
    """The page with the published numbers beside ours, and with what the last of the views compares."""
    compared = views[-1]
    filters = [workspaces.Config("stage").isin(list(compared.stages)), workspaces.Metric("State") == "finished"]
    runs = reports.Runset(
        entity=entity,
        project=project,
        name=compared.name,
        filters=workspaces.And(*filters),
        groupby=[f"config.{label}" for label in compared.group_by],
    )
    drawn = [one for section in compared.sections for one in section.panels]
    blocks = [
        reports.P(
            "Top-1 accuracy in % on test images, unless another number is named. Ours: mean and standard deviation "
            "over runs, with their number; fixed and faithful are the flavours of a published experiment. A dash: "
            "no finished run in this project."
        ),
        reports.MarkdownBlock(table),
        reports.H2("What was measured here"),
        reports.PanelGrid(runsets=[runs], panels=[panel(one, number) for number, one in enumerate(drawn)]),
    ]
    return reports.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")
