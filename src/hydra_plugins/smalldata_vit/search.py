"""Hydra's sweeper `hydra/sweeper=optuna`: settings are sought by Optuna, every trial is a command of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from smalldata_vit.cluster_queue import Queue

CHOSEN: list[Any] = ["_self_", {"sampler": "tpe"}, {"pruner": "median"}]


@dataclass
class SearchSettings:
    """What `hydra.sweeper.…` takes with hydra/sweeper=optuna."""

    _target_: str = "hydra_plugins.smalldata_vit.search.Search"
    _recursive_: bool = False  # Optuna is imported when the search begins, not when Hydra looks for plugins
    defaults: list[Any] = field(default_factory=lambda: CHOSEN)
    space: str | None = None  # an option of conf/search/
    # [val/accuracy], [val/accuracy,seconds]; null: the space's, else the last stage's
    objective: list[str] | None = None
    trials: int = 20  # in all, those of earlier and other searches on the same storage included
    # At the same time; they share threads and GPUs. auto: as many as there are GPUs or cores for, and on a cluster as
    # many as hydra.launcher.jobs.
    jobs: Any = 1
    storage: str | None = None  # a journal file or a database's URL; null: search.journal in the search's folder
    study: str = "search"  # several may live in one storage
    watch: str | None = None  # the metric that trials are pruned by; null: the objective, if there is just one
    budgets: list[int] = field(default_factory=lambda: [25, 50, 75])  # percent of its stage, where trials are compared
    seed: int = 0  # of the proposals
    failures: int = 3  # so many failed trials, without one that finished, end the search
    sampler: Any = None
    pruner: Any = None


SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "_partial_": True,
        "multivariate": True,  # learning rate and weight decay are sought together
        "constant_liar": True,  # trials at the same time do not crowd at one place
        "n_startup_trials": 8,
    },
    "random": {"_target_": "optuna.samplers.RandomSampler", "_partial_": True},
}
PRUNERS: dict[str, dict[str, Any]] = {
    "median": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 4},
    # The unit of a resource is one percent of the watched stage.
    "halving": {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 25, "reduction_factor": 2},
    "none": {"_target_": "optuna.pruners.NopPruner"},
}

_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="optuna", node=SearchSettings, provider="smalldata_vit")
for _group, _nodes in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
    for _name, _node in _nodes.items():
        _store.store(group=f"hydra/sweeper/{_group}", name=_name, node=_node, provider="smalldata_vit")


class Search(Sweeper):
    """Asks Optuna for settings, runs each as a job, and tells it what came out.

    Arguments: as in `SearchSettings`, where each is described.
    """

    def __init__(
        self,
        space: str | None,
        objective: Sequence[str] | None,
        trials: int,
        jobs: int | str,
        storage: str | None,
        study: str,
        watch: str | None,
        budgets: Sequence[int],
        seed: int,
        failures: int,
        sampler: DictConfig,
        pruner: DictConfig,
    ) -> None:
        self.space, self.objective, self.trials, self.jobs = space, objective, trials, jobs
        self.storage, self.study, self.watch, self.budgets = storage, study, watch, list(budgets)
        self.seed, self.failures, self.sampler, self.pruner = seed, failures, sampler, pruner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the sweep, which run.py hands to Hydra as the task, and the launcher, which says where trials run."""
        from hydra.core.plugins import Plugins

        self.task = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search; how it ended stands in the sweep, as a launcher leaves it there."""
        from smalldata_vit.sweeps import Sweep  # here, so that Hydra's search for plugins stays quick
        from smalldata_vit.words import ConfigError

        if not isinstance(self.task, Sweep):
            raise TypeError(f"this sweeper starts run.py and nothing else, but the task is {self.task!r}")
        try:
            if find_spec("optuna") is None:
                raise ConfigError("hydra/sweeper=optuna needs Optuna: pip install -e .[search]")
            self.task.status = self._search(self.task.fixed, self.task.folder, self.task.script, arguments)
        except ConfigError as error:
            self.task.refused = error
            raise SystemExit(2) from error  # Hydra would print any other exception with its stack

    def _search(self, fixed: Sequence[str], folder: Any, script: Any, swept: Sequence[str]) -> int:
        from hydra.utils import instantiate

        from hydra_plugins.smalldata_vit.launcher import draw_report
        from smalldata_vit.search.asked import Asked
        from smalldata_vit.search.command import search

        queue = self._queue()
        asked = Asked(
            fixed=list(fixed),
            swept=list(swept),
            folder=folder,
            script=script,
            space=self.space,
            objective=None if self.objective is None else list(self.objective),
            trials=self.trials,
            jobs=self.jobs,
            storage=self.storage,
            study=self.study,
            watch=self.watch,
            budgets=self.budgets,
            seed=self.seed,
            failures=self.failures,
        )
        status = search(asked, instantiate(self.sampler), instantiate(self.pruner), queue)
        if status in (0, 1):  # not where a signal asks to leave
            draw_report(asked.place)
        return status

    def _queue(self) -> "Queue | None":
        """The cluster that trials go to, None for this machine; ConfigError where they would go neither way."""
        # Here, for Hydra executes every plugin's file once more than Python does: its classes are those of then.
        from hydra_plugins.smalldata_vit.launcher import ProcessLauncher
        from hydra_plugins.smalldata_vit.slurm import SlurmLauncher
        from smalldata_vit.words import ConfigError

        if isinstance(self.launcher, SlurmLauncher):
            return self.launcher
        if not isinstance(self.launcher, ProcessLauncher):
            raise ConfigError("a search runs its trials with hydra/launcher=smalldata_vit or hydra/launcher=slurm")
        if self.launcher.jobs != 1:
            many = self.launcher.jobs
            raise ConfigError(f"hydra.launcher.jobs={many} is a sweep's: a search takes hydra.sweeper.jobs={many}")
        return None
