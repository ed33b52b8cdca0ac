"""The words in which views are written: panels, sections, views; plain data that needs no W&B."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Axis = Literal["step", "time"]


@dataclass(frozen=True)
class Lines:
    """Numbers over optimizer steps, or over the run's time; of several runs of a group their mean and spread.

    Arguments:
        keys: as rows of metrics.csv have them.
    """

    title: str
    keys: Sequence[str]
    over: Axis = "step"
    log: bool = False


@dataclass(frozen=True)
class Bars:
    """A final number for each label, mean and standard deviation over the runs that share it."""

    title: str
    key: str
    by: str = "method"


@dataclass(frozen=True)
class Dots:
    """A dot a run, or a group: one final number over another."""

    title: str
    over: str
    key: str
    log_over: bool = True


@dataclass(frozen=True)
class Media:
    """Pictures or a table that runs leave at their end."""

    title: str
    key: str


Panel = Lines | Bars | Dots | Media


@dataclass(frozen=True)
class Section:
    """Panels that are looked at together."""

    name: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class View:
    """A saved view of a project.

    Arguments:
        stages: whose runs are shown.
        group_by: labels that runs must share to be drawn as one.
        finished: whether only finished runs are shown.
        others_than: label to the value whose runs are left out.
        columns: final numbers that the list of runs begins with.
        labels: of the config, that follow them.
    """

    name: str
    stages: Sequence[str]
    sections: Sequence[Section]
    group_by: Sequence[str] = ()
    finished: bool = False
    others_than: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    labels: Sequence[str] = ("method", "dataset", "arch", "seed")


def history(view: View) -> set[str]:
    """Keys of rows that a view draws."""
    return {key for panel in panels_of(view) if isinstance(panel, Lines) for key in panel.keys}


def finals(view: View) -> set[str]:
    """Keys of the summary that a view draws or lists."""
    drawn = {panel.key for panel in panels_of(view) if isinstance(panel, Bars | Dots)}
    return drawn | {panel.over for panel in panels_of(view) if isinstance(panel, Dots)} | set(view.columns)


def media(view: View) -> set[str]:
    """Keys of pictures and tables that a view shows."""
    return {panel.key for panel in panels_of(view) if isinstance(panel, Media)}


def used_labels(view: View) -> set[str]:
    """Keys of the config that a view groups, filters or lists by."""
    by = {panel.by for panel in panels_of(view) if isinstance(panel, Bars)}
    return {*by, *view.group_by, *view.others_than, *view.labels, "stage"}


def panels_of(view: View) -> list[Panel]:
    """All panels of a view."""
    return [panel for section in view.sections for panel in section.panels]
