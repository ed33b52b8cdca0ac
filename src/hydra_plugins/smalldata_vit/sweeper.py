"""Hydra's sweeper for `-m`: every combination of the listed values, left for our launcher to check."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


class EveryCombination(BasicSweeper):
    """Hydra's own sweeper, but for its check of the jobs.

    It would compose them without the plan that each job's options choose, and refuse keys which only that plan brings
    in. The launcher composes and checks every job as a command of its own, before the first starts.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launcher."""


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="smalldata_vit",
    node=BasicSweeperConf(_target_="hydra_plugins.smalldata_vit.sweeper.EveryCombination"),
    provider="smalldata_vit",
)
