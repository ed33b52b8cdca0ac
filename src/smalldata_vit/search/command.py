"""What `hydra/sweeper=optuna` does: plan the search, run it with those who work for it, and say what came out."""

from collections.abc import Callable

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from smalldata_vit.cluster_queue import Queue
from smalldata_vit.config import stage_config
from smalldata_vit.live_table import watched
from smalldata_vit.search.asked import Asked
from smalldata_vit.search.claims import Claims
from smalldata_vit.search.display import Display
from smalldata_vit.search.driver import Driver
from smalldata_vit.search.on_cluster import OnCluster
from smalldata_vit.search.outcome import Outcome
from smalldata_vit.search.planning import Plan, checked, plan
from smalldata_vit.search.workers import Here, Workers
from smalldata_vit.shares import this_machine


def search(asked: Asked, sampler: Callable[..., BaseSampler], pruner: BasePruner, queue: Queue | None = None) -> int:
    """Run what was asked for; returns the exit status. ConfigError for what cannot be right, before anything runs.

    `queue`: the cluster that trials are submitted to; None: they run on this machine.
    """
    planned = plan(asked, sampler, pruner)
    workers = workers_of(planned, queue)
    display = Display(planned, workers.slots, moves=watched())
    with (
        Claims(planned.study, planned.space, asked.place, asked.trials, planned.turn, workers.free) as claims,
        display,
    ):
        driver = Driver(planned, claims, workers, display)
        status = driver.run()
        why = driver.why()
    print(Outcome(planned).summary(why), flush=True)
    return status


def workers_of(plan: Plan, queue: Queue | None) -> Workers:
    """Those who run the trials of a search, judged by what its first combination needs."""
    asked = plan.asked
    first = checked([*asked.shared, *plan.space.words(plan.space.first())])
    trainer = stage_config(first, next(iter(first.stages)))["trainer"]
    if queue is None:
        return Here(this_machine(), asked.jobs, asked.trials, trainer)
    return OnCluster(queue, asked.place, asked.jobs, asked.trials, trainer)
