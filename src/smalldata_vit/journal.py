"""Where a stage's numbers and messages go: the append-only file, the terminal, the log."""

import logging
from collections.abc import Mapping
from pathlib import Path

from smalldata_vit.console import Reporter
from smalldata_vit.metrics import MetricsFile

log = logging.getLogger("smalldata_vit")


class Journal:
    """Takes numbers and sentences; silent on every rank but the first (`folder=None`)."""

    def __init__(self, folder: Path | None, stage: str) -> None:
        self.stage = stage
        self.file = None if folder is None else MetricsFile(folder / "metrics.csv")
        self.reporter: Reporter | None = None
        self.warnings: list[str] = []

    def resume(self, step: int) -> None:
        """Forget numbers of later steps than the checkpoint's."""
        if self.file is not None:
            self.file.cut(step)

    def write(self, step: int, epoch: float, seconds: float, numbers: Mapping[str, float]) -> None:
        """Numbers into the file, flushed."""
        if self.file is not None:
            self.file.write(step, epoch, seconds, numbers)

    def advance(self, step: int, total: int, numbers: Mapping[str, float]) -> None:
        """Show how far the stage is."""
        if self.file is None:
            return
        if self.reporter is None:
            self.reporter = Reporter(total, "step", self.stage)
        self.reporter.advance(step, numbers)

    def note(self, sentence: str) -> None:
        """Something that the user should know."""
        if self.file is not None:
            log.info("%s: %s", self.stage, sentence)

    def warn(self, sentence: str) -> None:
        """Something that the user should act on; kept for results.json."""
        self.warnings.append(sentence)
        if self.file is not None:
            log.warning("%s: %s", self.stage, sentence)

    def close(self) -> None:
        """End the progress display."""
        if self.reporter is not None:
            self.reporter.close()
            self.reporter = None
