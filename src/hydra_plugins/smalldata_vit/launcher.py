"""Hydra's launcher for `-m`: each job of a sweep is a command of its own, so nothing leaks from one into the next."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherSettings:
    """What `hydra.launcher.…` takes."""

    _target_: str = "hydra_plugins.smalldata_vit.launcher.ProcessLauncher"
    jobs: int = 1  # at the same time; they share the threads


ConfigStore.instance().store(
    group="hydra/launcher", name="smalldata_vit", node=LauncherSettings, provider="smalldata_vit"
)


class ProcessLauncher(Launcher):
    """Starts each job as `python run.py <its overrides> output_dir=<its folder>`; the table of all comes at the end.

    Arguments:
        jobs: how many run at the same time.
    """

    def __init__(self, jobs: int) -> None:
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
        return [JobReturn(overrides=list(words), status=JobStatus.COMPLETED) for words in job_overrides]
