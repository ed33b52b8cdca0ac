"""Hydra's launcher for `-m`: each job of a sweep is a command of its own, so nothing leaks from one into the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherSettings:
    """What `hydra.launcher.…` takes."""

    _target_: str = "hydra_plugins.smalldata_vit.launcher.ProcessLauncher"
    jobs: int = 1  # at the same time; they share the threads


ConfigStore.instance().store(group="hydra/launcher", name="smalldata_vit", node=LauncherSettings, provider="smalldata_vit")


class ProcessLauncher(Launcher):
    """Starts each job as `python run.py <its overrides> output_dir=<its folder>` and sums up at the end."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the sweep's own settings."""
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs."""
        raise NotImplementedError
