"""Hydra's launcher for `-m`: each job of a sweep is a command of its own, so nothing leaks from one into the next."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherSettings:
    """What `hydra.launcher.…` takes."""

    _target_: str = "hydra_plugins.smalldata_vit.launcher.ProcessLauncher"
    jobs: Any = 1  # at the same time; they share threads and GPUs. auto: as many as there are GPUs or cores for


ConfigStore.instance().store(
    group="hydra/launcher", name="smalldata_vit", node=LauncherSettings, provider="smalldata_vit"
)


class ProcessLauncher(Launcher):
    """Starts each job as `python run.py <its overrides> output_dir=<its folder>`; the table of all comes at the end.

    Arguments:
        jobs: how many run at the same time; `auto`: as many as there are GPUs for, else cores.
    """

    def __init__(self, jobs: object) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the sweep, which run.py hands to Hydra as the task."""
        self.task = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; how each ended stands in the sweep, not in what is returned."""
        from smalldata_vit.sweeps import Sweep  # here, so that Hydra's search for plugins stays quick

        if not isinstance(self.task, Sweep):
            raise TypeError(f"this launcher starts run.py and nothing else, but the task is {self.task!r}")
        self.task.launch([list(words) for words in job_overrides], initial_job_idx, self.jobs)
        draw_report(self.task.folder)
        return [JobReturn(overrides=list(words), status=JobStatus.COMPLETED) for words in job_overrides]


def draw_report(folder: Path) -> None:
    """Write the report of all runs in a sweep's folder; that it cannot be drawn is said, and fails no job."""
    if not any(folder.glob("*/results.json")):
        return
    try:
        from smalldata_vit.reports.sweep_page import write_sweep_report

        print(f"report: {write_sweep_report(folder)}", flush=True)
    except Exception as error:
        said = f"report.html of the sweep was not drawn: {type(error).__name__}: {error}"
        print(f"{said}; python -m smalldata_vit.reports {shlex.quote(str(folder))} tries again", file=sys.stderr)
