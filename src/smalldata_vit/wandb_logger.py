"""Weights & Biases behind a guard: a process of its own does the talking, and the training never waits for it."""

import atexit
import json
import logging
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from smalldata_vit.results import plain, without_secrets
from smalldata_vit.wandb_facts import described, exit_code, outcome_since, written
from smalldata_vit.wandb_start import run_id, start_process, temporary_folder

log = logging.getLogger(__name__)

ROWS_IN_WAITING = 20_000


class Wandb(Logger):
    """One W&B run for one stage; online with a key and a network, else offline, which it says in one line.

    Starting and logging put lines into a queue and cost microseconds; a W&B that hangs, refuses or dies costs its own
    rows and nothing else (`metrics.csv` has them all). The end waits at most `finish_seconds`. Rows carry `step`, so a
    stage that is resumed goes on in its run. `finalize` does not end the run, because the test numbers come after it.
    When the process ends, the stage's outcome and pictures are read from the files in its folder.

    Arguments:
        folder: of the stage; holds the run's id and its offline data.
        stage: W&B's job type.
        group: the experiment, whose stages W&B shows together.
        config: of the stage, plain data; logged flat, under the keys that one types.
        project, entity, tags: W&B's own; an entity of None is the account's default.
        chosen: option of each group; they become tags, and what views group by (`method`, `dataset`, `arch`, …).
        output_dir: of the whole experiment, for what the stages before have cost; None: they are not there.
        media: whether views, confusion matrix and mistakes are logged when the stage has finished.
        attention_images: test images for which attention is drawn then, by a process of its own; 0: none.
        checkpoints: whether the weights that were selected are uploaded as an artifact.
        peak_flops: FLOP/s that the devices can do together, for `train/share_of_peak`; None: not known.
        finish_seconds: that the end waits at most; uploads count.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        group: str,
        config: Mapping[str, Any],
        project: str,
        entity: str | None,
        tags: Sequence[str],
        chosen: Mapping[str, str] = MappingProxyType({}),
        output_dir: str | None = None,
        media: bool = True,
        attention_images: int = 0,
        checkpoints: bool = False,
        peak_flops: float | None = None,
        finish_seconds: float = 60.0,
    ) -> None:
        super().__init__()
        self.folder, self.project, self.id, self.failed = folder, project, run_id(folder), False
        self.waiting: queue.Queue[str] = queue.Queue(ROWS_IN_WAITING)
        self.lost, self.closed, self.data = 0, False, folder / "wandb"
        self.finish_seconds, self.began_with = finish_seconds, written(folder)
        self.temporary = temporary_folder()
        self.process = start_process(folder, self.temporary)
        run = {"project": project, "entity": entity, "group": group, "job_type": stage, "notes": output_dir}
        run |= described(stage, group, without_secrets(plain(config)), tags, chosen)
        asked: dict[str, Any] = {"media": media, "attention_images": attention_images, "checkpoints": checkpoints}
        asked |= {"output_dir": output_dir, "peak_flops": peak_flops, "finish_seconds": finish_seconds}
        self._send({"run": {**run, "id": self.id, "dir": str(folder)}, **asked})
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._feed, self._listen)]
        for thread in self.threads:
            thread.start()
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run's id."""
        return self.id

    @property
    def save_dir(self) -> str:
        """The stage's folder."""
        return str(self.folder)

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the whole config was sent at the start."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put one row in the queue."""
        self._send({"log": {**{name: float(value) for name, value in metrics.items()}, "step": step}})

    def finalize(self, status: str) -> None:
        """Remember a failure; the run itself ends with `close`."""
        self.failed = self.failed or status == "failed"

    def close(self) -> None:
        """End the run, at the latest after `finish_seconds`; called at exit, and harmless when called again."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        ends_at = time.monotonic() + self.finish_seconds
        try:
            if self.process.poll() is None:
                outcome = outcome_since(self.began_with, self.folder)
                last = {"finish": exit_code(outcome, self.failed), "outcome": outcome}
                self.waiting.put(json.dumps(last), timeout=self.finish_seconds / 2)
                self.process.wait(max(0.0, ends_at - time.monotonic()))
        except (queue.Full, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
            log.warning("W&B did not finish within %.0f s and was left; %s", self.finish_seconds, self._later())
        shutil.rmtree(self.temporary, ignore_errors=True)  # the process does so too, if nobody killed it
        for thread in self.threads:
            thread.join(timeout=1.0)
        if self.lost:
            log.warning("W&B missed %d rows; metrics.csv has them all", self.lost)

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self.waiting.put_nowait(json.dumps(message))
        except queue.Full:
            self.lost += 1

    def _feed(self) -> None:
        """Hand the queue on, line by line, until the other process ends."""
        pipe = self.process.stdin
        assert pipe is not None
        with suppress(BrokenPipeError), pipe:
            line = ""
            while not line.startswith('{"finish"'):
                line = self.waiting.get()
                pipe.write(line + "\n")
                pipe.flush()

    def _listen(self) -> None:
        """Say what became of the run."""
        pipe = self.process.stdout
        assert pipe is not None
        with pipe:
            for state in map(json.loads, pipe):
                if state["mode"] == "online":
                    log.info("W&B: %s", state["url"])
                elif state["mode"] == "left out":
                    log.info("W&B: %s", state["why"])
                elif state["mode"] == "broken":
                    log.warning("W&B broke (%s); training goes on, and metrics.csv has every number", state["why"])
                    return
                else:
                    self.data = Path(state["folder"]).parent
                    log.info("W&B: offline (%s); %s", state["why"], self._later())
        if not self.closed:
            log.warning("W&B ended on its own; training goes on, and metrics.csv has every number")

    def _later(self) -> str:
        return f"`wandb sync {self.data}` uploads what it has"
