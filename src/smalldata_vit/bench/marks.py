"""A clock inside the real command, at the point where loggers are: `+logger.marks={_target_: …Marks, …}`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from smalldata_vit.bench.harness import clock


class Marks(Logger):
    """Notes the time whenever numbers are written, which a short stage does at every step.

    Arguments:
        file: gets a JSON list of [optimizer steps taken, seconds].
        folder, stage, group, config: what every logger is told; of no use here.
    """

    name = "marks"
    version = 0

    def __init__(self, file: str, folder: Path, stage: str, group: str, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.file, self.now, self.marks = Path(file), clock()[0], list[tuple[int, float]]()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note the time of a training step; what evaluators say comes later and is none."""
        if step is not None and "train/loss" in metrics:
            self.marks.append((step, self.now()))

    def log_hyperparams(self, params: Any) -> None:
        """Nothing."""

    def finalize(self, status: str) -> None:
        """Write."""
        self.file.write_text(json.dumps(self.marks))
