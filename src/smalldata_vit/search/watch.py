"""How a running trial does, read from the metrics file of its job as it grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smalldata_vit.metrics import Row, read_metrics
from smalldata_vit.search.objectives import Objective


@dataclass
class Watch:
    """Looks for the value that a metric had when a trial had spent so much of a stage.

    Arguments:
        metric: a validation metric of one stage.
        budgets: percent of that stage's steps or epochs.
        sizes: of each metrics file when it was last read; a file that has not grown is not read again.
    """

    metric: Objective
    budgets: Sequence[int]
    sizes: dict[Path, int] = field(default_factory=dict)

    def reached(self, folder: Path, settings: Mapping[str, Any], known: set[int]) -> dict[int, float]:
        """The metric at each budget that the job in a folder has reached and that is not known yet.

        `settings`: the config of the stage. A budget's value is that of the first judgement at it or after it.
        """
        file = folder / str(self.metric.stage) / "metrics.csv"
        size = file.stat().st_size if file.exists() else 0
        if size == self.sizes.get(file, 0) or known >= set(self.budgets):
            return {}
        self.sizes[file] = size
        judged = [(percent(row, settings), row.value) for row in read_metrics(file) if row.name == self.metric.metric]
        found = {}
        for budget in sorted(set(self.budgets) - known):
            value = next((value for spent, value in judged if spent >= budget - 1e-9), None)
            if value is not None:
                found[budget] = value
        return found


def percent(row: Row, settings: Mapping[str, Any]) -> float:
    """How much of its stage was over when a row was written."""
    if settings["steps"] is not None:
        return 100 * row.step / settings["steps"]
    return 100 * row.epoch / settings["epochs"]
