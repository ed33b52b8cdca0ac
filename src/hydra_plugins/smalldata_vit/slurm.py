"""Hydra's launcher for `-m` on a SLURM cluster: the sweep becomes one array job, every rank a task of SLURM's.

`python run.py -m hydra/launcher=slurm hydra.launcher.partition=gpu seed=0,1,2`; `hydra.launcher.executor=local` does
the same on this machine without SLURM, all jobs at once, to try it out.
"""

import os
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from smalldata_vit.cluster_queue import Shape
    from smalldata_vit.cluster_task import Task


@dataclass
class SlurmLauncher(Launcher):
    """Submits each job as `python run.py <its overrides> output_dir=<its folder>`, with submitit.

    Every rank of a job is a task of SLURM's, as many on a machine as it has GPUs: `trainer.nodes` machines with
    `trainer.devices` ranks. What one job takes beyond its time limit it gets in further turns.

    Arguments:
        executor: `slurm`, or `local` for this machine.
        minutes: time limit of one turn.
        gpus_per_node: of one job; null: `trainer.devices`, or 1 where that is auto, and none with trainer=cpu.
        cpus_per_task: cores of a rank; null: the cluster's own rule. So for memory_gb, of a job on one machine.
        jobs: how many of the sweep's jobs run at the same time, or the most of a search's.
        signal_seconds: before the time limit at which a job is told to save and to return to the queue.
        requeues: how many turns a job gets after its first.
        wait: whether the command waits for the jobs and shows how they ended.
        before: shell commands before the job's own, such as `module load`.
        options: any further options of sbatch, ["mail-type=END", exclusive].
    """

    _target_: str = "hydra_plugins.smalldata_vit.slurm.SlurmLauncher"
    executor: str = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = 240
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    memory_gb: float | None = None
    jobs: int = 100
    signal_seconds: int = 120
    requeues: int = 20
    wait: bool = False
    before: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the sweep, which run.py hands to Hydra as the task."""
        self.sweep, self.submitted = task_function, list[Any]()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs; how each ended stands in the sweep, not in what is returned."""
        from smalldata_vit.cluster_sweep import launch  # here, so that Hydra's search for plugins stays quick
        from smalldata_vit.sweeps import Sweep

        if not isinstance(self.sweep, Sweep):
            raise TypeError(f"this launcher starts run.py and nothing else, but the task is {self.sweep!r}")
        launch(self.sweep, [list(words) for words in job_overrides], initial_job_idx, self)
        return [JobReturn(overrides=list(words), status=JobStatus.COMPLETED) for words in job_overrides]

    @property
    def seconds_between_looks(self) -> float:
        """How often the cluster is asked how the jobs stand."""
        return 15.0 if self.executor == "slurm" else 1.0

    def task(self, command: list[str], folder: Path) -> "Task":
        """What a job runs."""
        from smalldata_vit.cluster_task import Task

        # What is left of the time before the limit goes to scontrol.
        return Task(command, str(folder), self.requeues, seconds_to_save=max(5.0, self.signal_seconds - 30.0))

    def submit(self, tasks: Sequence["Task"], shape: "Shape", folder: Path, name: str) -> list[str]:
        """Submit these tasks as one array; the names of their jobs. ConfigError where there is nobody to submit to."""
        self.refuse(shape)
        # Before submitit is imported: it takes USR2 otherwise, of which our stages know nothing.
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"
        from submitit import AutoExecutor

        executor = AutoExecutor(folder=folder, cluster=self.executor)
        executor.update_parameters(**self._asked(shape, name))
        jobs = executor.submit_array(list(tasks))
        self.submitted += jobs
        return [str(job.job_id) for job in jobs]

    def there(self, names: Collection[str]) -> set[str]:
        """Those of these jobs that wait or run, among others; RuntimeError if SLURM does not say."""
        from smalldata_vit.cluster_queue import processes_among, squeue

        if self.executor == "slurm":
            return squeue()
        over = {str(job.job_id) for job in self.submitted if job.done()}
        return processes_among(set(names) - over)

    def named(self, name: str) -> set[str]:
        """The jobs that wait or run under this name; on this machine nobody remembers names."""
        from smalldata_vit.cluster_queue import squeue

        return squeue(name) if self.executor == "slurm" else set()

    def cancel(self, job: str) -> None:
        """Have a job save and leave, and not come back; one that still waits goes at once."""
        from smalldata_vit.cluster_queue import scancel

        if self.executor == "slurm":
            scancel(job)
            return
        with suppress(ProcessLookupError):
            os.kill(int(job), signal.SIGTERM)

    def refuse(self, shape: "Shape") -> None:
        """ConfigError where there is nobody to submit to, or none with such machines."""
        from smalldata_vit.words import ConfigError

        if self.executor not in ("slurm", "local"):
            raise ConfigError(f"hydra.launcher.executor={self.executor} is none of slurm, local")
        if find_spec("submitit") is None:
            raise ConfigError("hydra/launcher=slurm needs submitit: pip install 'smalldata-vit[slurm]'")
        if self.executor == "slurm" and (which("sbatch") is None or which("srun") is None):
            raise ConfigError(
                "there is no sbatch and srun on this machine: submit from a login node of the cluster, or try it out "
                "here with hydra.launcher.executor=local"
            )
        if self.executor == "local" and shape.nodes > 1:
            raise ConfigError(f"hydra.launcher.executor=local has one machine, not trainer.nodes={shape.nodes}")

    def _asked(self, shape: "Shape", name: str) -> dict[str, Any]:
        """What submitit is asked for, in its words; what is null is left to the cluster."""
        # srun takes neither from sbatch: without them a task gets one core, and a dead rank leaves the others waiting.
        cores = [] if self.cpus_per_task is None else [f"--cpus-per-task={self.cpus_per_task}"]
        srun = ["--kill-on-bad-exit=1", "--distribution=block", *cores]
        asked = {
            "name": name,
            "timeout_min": self.minutes,
            "nodes": shape.nodes,
            "tasks_per_node": shape.tasks_per_node,
            "gpus_per_node": shape.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem_gb": self.memory_gb,
            "stderr_to_stdout": True,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_array_parallelism": self.jobs,
            "slurm_setup": list(self.before) or None,
            "slurm_srun_args": srun,
            "slurm_additional_parameters": {
                "signal": f"USR1@{self.signal_seconds}",
                "requeue": True,
                **dict(sbatch_option(text) for text in self.options),
            },
        }
        return {key: value for key, value in asked.items() if value is not None}


def sbatch_option(text: str) -> tuple[str, str | bool]:
    """An option's name and value; one without a value is True, as submitit has it."""
    name, equals, value = text.lstrip("-").partition("=")
    return name, value if equals else True


ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmLauncher, provider="smalldata_vit")
