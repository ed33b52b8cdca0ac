"""`bench overhead`: what our Trainer loop costs over a bare loop, and Trainer's defaults with logging (C9)."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from smalldata_vit.bench.harness import Contender, Table, Turn, clock, compared
from smalldata_vit.bench.one_layer import BATCH, LR, NUMBERS, WIDTH, adamw, built
from smalldata_vit.bench.staged import Looking

UNSEEN = 64
STEPS_AT_ONCE = 32
"""As in `conf/trainer/`."""


class Defaults(lightning.LightningModule):
    """The same layer as most people write it: automatic optimisation, five `self.log`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss, logged with four more numbers."""
        loss = self.layer(batch).square().mean()
        for name in ("loss", *NUMBERS):
            self.log(name, loss.detach())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of all contenders."""
        return adamw(self.parameters(), LR)


class Repeated:
    """The same batch again and again: a loader that costs nothing."""

    def __init__(self, batch: Tensor, count: int) -> None:
        self.batch, self.count = batch, count

    def __iter__(self) -> Iterator[Tensor]:
        return repeat(self.batch, self.count)

    def __len__(self) -> int:
        return self.count


def pictures() -> Tensor:
    """What all contenders train on."""
    return torch.randn(3 * BATCH, WIDTH)


def bare(steps: int) -> Turn:
    """Forward, backward, clip, step: nothing else."""
    layer, given = nn.Linear(WIDTH, WIDTH), pictures()
    optimizer = adamw(layer.parameters(), LR)

    def some(count: int) -> None:
        for _ in range(count):
            loss = layer(given).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(layer.parameters(), 3.0)
            optimizer.step()
            optimizer.zero_grad()

    now, _ = clock()
    some(UNSEEN)
    begun = now()
    some(steps)
    return Turn(steps, now() - begun)


def between(steps: int, at_once: int, fit: Callable[[Looking], None]) -> Turn:
    """The time of `steps` steps, loop included; `fit` trains with somebody looking.

    at_once: steps in one of Lightning's batches.
    """
    now, _ = clock()
    marks: list[float] = []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fit(Looking(UNSEEN // at_once, steps // at_once + 1, lambda: None, lambda: marks.append(now())))
    return Turn((len(marks) - 1) * at_once, marks[-1] - marks[0])


def ours(steps: int) -> Turn:
    """Our learner under the Trainer that a stage gets, writing its numbers as every run does."""

    def fit(looking: Looking) -> None:
        with tempfile.TemporaryDirectory() as folder:
            learner, data = built(Path(folder), 10 * steps, STEPS_AT_ONCE)
            off: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False}
            trainer = lightning.Trainer(
                accelerator="cpu", max_epochs=1, logger=False, enable_model_summary=False, callbacks=[looking], **off
            )
            trainer.fit(learner, data)
            learner.journal.close()

    return between(steps, STEPS_AT_ONCE, fit)


def defaults(steps: int, plain: bool) -> Turn:
    """Lightning as it comes; `plain`: without logger, progress bar and checkpoints, but still with `self.log`."""

    def fit(looking: Looking) -> None:
        with tempfile.TemporaryDirectory() as folder:
            off: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            trainer = lightning.Trainer(
                accelerator="cpu", max_epochs=1, default_root_dir=folder, callbacks=[looking], **(off if plain else {})
            )
            trainer.fit(Defaults(), Repeated(pictures(), UNSEEN + steps + 2))

    return between(steps, 1, fit)


def table(rounds: int, steps: int) -> Table:
    """Steps a second, and microseconds over the bare loop."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    made = compared(
        "loop around one layer of 32 by 32",
        [
            Contender("bare loop", lambda: bare(steps)),
            Contender("ours, logging on", lambda: ours(steps)),
            Contender("Trainer, extras off, five self.log", lambda: defaults(steps, plain=True)),
            Contender("Trainer defaults, five self.log", lambda: defaults(steps, plain=False)),
        ],
        rounds,
        unit="steps/s",
    )
    base = made.rows[0].rate
    rows = [
        replace(row, more={"us a step": 1e6 / row.rate, "us over the bare loop": 1e6 / row.rate - 1e6 / base})
        for row in made.rows
    ]
    return replace(made, rows=rows)
