"""From what was typed to a search that can begin: everything that cannot be right is refused before anything runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from smalldata_vit import config
from smalldata_vit.output import Lock
from smalldata_vit.schema import EVALUATE
from smalldata_vit.search.asked import Asked
from smalldata_vit.search.objectives import Objective, objective, objectives
from smalldata_vit.search.sampler import Untried
from smalldata_vit.search.space import Space, space_of
from smalldata_vit.search.storage import opened, study_of, turn_of
from smalldata_vit.search.watch import Watch
from smalldata_vit.words import ConfigError, group_of, parts


@dataclass(frozen=True)
class Plan:
    """A search that can begin.

    Arguments:
        goals: what it optimises.
        watch: by what trials are pruned; None: none is.
        study: Optuna's, shared by all searches on its storage.
        turn: a lock file by which they take turns.
        stages: of a trial, in order.
    """

    asked: Asked
    space: Space
    goals: Sequence[Objective]
    watch: Watch | None
    study: Any
    turn: Path
    stages: Sequence[str]

    def opening(self, jobs: int) -> str:
        """What is said at the start."""
        many = "infinitely many" if self.space.size == float("inf") else f"{self.space.size:.0f}"
        by = "nothing is pruned"
        if self.watch is not None:
            at = ", ".join(f"{budget} %" for budget in self.watch.budgets)
            by = f"pruned by {self.watch.metric.name} at {at} of {self.watch.metric.stage}"
        return (
            f"search for {', '.join(f'{goal.better} {goal.name}' for goal in self.goals)}: {self.asked.trials} trials "
            f"in all of {many} combinations, {jobs} at a time, {by}; in {self.asked.place}"
        )


def plan(asked: Asked, sampler: Callable[..., BaseSampler], pruner: BasePruner) -> Plan:
    """The search that was asked for; ConfigError for what cannot be right.

    `sampler`: makes Optuna's sampler of a seed.
    """
    asked.refuse_numbers()
    space, written = space_of(asked.space, asked.swept, asked.fixed)
    cfg = checked([*asked.shared, *space.words(space.first())])
    last = [stage for stage in cfg.stages if stage != EVALUATE] or list(cfg.stages)
    goals = objectives(asked.objective or written or [f"{last[-1]}.{cfg[last[-1]].best_by}"], cfg)
    watch = watched(asked, goals, cfg)
    turn, same = turn_of(asked.storage, asked.place), proof(asked, space)
    with Lock(turn, what=f"the turn to open the storage ({turn})", waits=True):
        study = study_of(opened(asked.storage, asked.place), asked.study, goals, space, same)
    study.sampler, study.pruner = Untried(sampler, space, asked.seed), pruner
    return Plan(asked, space, goals, watch, study, turn, list(cfg.stages))


def checked(words: Sequence[str]) -> DictConfig:
    """The checked config of one trial."""
    cfg = config.compose(words)
    config.check(cfg)
    return cfg


def watched(asked: Asked, goals: Sequence[Objective], cfg: DictConfig) -> Watch | None:
    """By what trials are pruned; ConfigError if a metric was typed that trials cannot be pruned by."""
    if len(goals) > 1:
        if asked.watch is not None:
            raise ConfigError(
                f"hydra.sweeper.watch={asked.watch}: a search for several objectives prunes nothing, as no trial is "
                "simply worse than another; leave it out"
            )
        return None
    goal = goals[0]
    metric = goal if asked.watch is None else objective(asked.watch, cfg)
    prunes = metric.metric.startswith("val/") and metric.better == goal.better
    if asked.watch is not None and not prunes:
        raise ConfigError(
            f"hydra.sweeper.watch={asked.watch}: trials are pruned by a validation metric of which {goal.better} is "
            f"better, as of {goal.name}"
        )
    return Watch(metric, sorted(asked.budgets)) if prunes and asked.budgets else None


def proof(asked: Asked, space: Space) -> str:
    """Stands for everything that does not vary: trials of another one cannot be compared with these.

    Groups that vary are at their first option, for other words may belong to what they bring in; keys that vary are
    left out, so that an interval may be widened.
    """
    groups = [word for word in space.words(space.first()) if group_of(parts(word)[1]) is not None]
    return config.experiment_hash(config.compose([*asked.shared, *groups]))
