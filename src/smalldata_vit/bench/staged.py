"""A stage as `run.py` puts it together, for benchmarks that look into its steps."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning

from smalldata_vit import config as configuration
from smalldata_vit.assembly import Assembly, assemble, load_data
from smalldata_vit.bench.counting import Counting
from smalldata_vit.contracts import Drawn, Pictures, Views
from smalldata_vit.journal import Journal

NO_CHECKPOINT = 1e9
"""Seconds between checkpoints: none falls into the steps that are looked at."""


def stage_config(words: Sequence[str], name: str) -> dict[str, Any]:
    """The resolved, checked config of one stage of what these words ask for."""
    cfg = configuration.compose(list(words))
    configuration.check(cfg)
    config = configuration.stage_config(cfg, name)
    config["checkpoint_every_seconds"] = NO_CHECKPOINT
    return config | {"hash": configuration.config_hash(config)}


def staged(config: dict[str, Any], folder: Path, loggers: Sequence[Any] = ()) -> Assembly:
    """Everything of a stage, ready for `stage.trainer.fit(stage.learner, stage.data)`; it writes into `folder`."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # lines about hardware do not belong into tables
    folder.mkdir(parents=True, exist_ok=True)
    return assemble(config, load_data(config), folder, Journal(folder, config["stage"]), list(loggers), proof="bench")


class Looking(lightning.Callback):
    """Lets a stage take some steps, looks at the next ones one by one, and ends training.

    Arguments:
        unseen: steps before the first that is looked at.
        seen: steps that are looked at.
        begin, end: called around each of those, from the moment that the step has its batch.
    """

    def __init__(self, unseen: int, seen: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.unseen, self.seen, self.begin, self.end = unseen, seen, begin, end

    def on_train_batch_start(self, trainer: lightning.Trainer, learner: Any, batch: Any, batch_idx: int) -> None:
        """Begin to look."""
        if batch_idx >= self.unseen:
            self.begin()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End to look, and after the last step end training."""
        if batch_idx >= self.unseen:
            self.end()
        if batch_idx + 1 >= self.unseen + self.seen:
            trainer.should_stop = True


def look(stage: Assembly, looking: Looking) -> None:
    """Train with somebody looking."""
    callbacks: list[Any] = stage.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(looking)
    stage.trainer.fit(stage.learner, stage.data)


class CountedViews:
    """A stage's views, whose operations are counted as a part of their own (a `contracts.Views`)."""

    def __init__(self, views: Views, mode: Counting) -> None:
        self.views, self.mode = views, mode
        self.draw, self.compile, self.path = views.draw, views.compile, views.path

    def __call__(self, pictures: Pictures, drawn: Drawn) -> Any:
        """The views, made while the mode counts them apart."""
        self.mode.part = "views"
        try:
            return self.views(pictures, drawn)
        finally:
            self.mode.part = "step"
