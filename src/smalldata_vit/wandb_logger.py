"""Weights & Biases behind a guard: a process of its own does the talking, and the training never waits for it."""

import atexit
import json
import logging
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from smalldata_vit.results import plain, without_secrets

log = logging.getLogger(__name__)

SECONDS_TO_FINISH = 60.0
ROWS_IN_WAITING = 20_000


class Wandb(Logger):
    """One W&B run for one stage; online with a key and a network, else offline, which it says in one line.

    Starting and logging put lines into a queue and cost microseconds; a W&B that hangs, refuses or dies costs its own
    rows and nothing else (`metrics.csv` has them all). The end waits at most a minute. Rows carry `step`, so a stage
    that is resumed goes on in its run. `finalize` does not end the run, because the test numbers come after it.

    Arguments:
        folder: of the stage; holds the run's id and its offline data.
        stage: W&B's job type.
        group: the experiment, whose stages W&B shows together.
        config: of the stage, plain data.
        project, entity, tags: W&B's own; an entity of None is the account's default.
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
    ) -> None:
        super().__init__()
        self.folder, self.project, self.id, self.failed = folder, project, run_id(folder), False
        self.waiting: queue.Queue[str] = queue.Queue(ROWS_IN_WAITING)
        self.lost, self.closed, self.data = 0, False, folder / "wandb"
        self.process = _start_process(folder)
        facts: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": stage,
            "name": f"{group} {stage}",
        }
        facts |= {"tags": list(tags), "config": without_secrets(plain(config)), "id": self.id, "dir": str(folder)}
        self._send(facts)
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
        """End the run, at the latest after a minute; called at exit, and harmless when called again."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        ends_at = time.monotonic() + SECONDS_TO_FINISH
        try:
            if self.process.poll() is None:
                self.waiting.put(json.dumps({"finish": int(self.failed)}), timeout=SECONDS_TO_FINISH / 2)
                self.process.wait(max(0.0, ends_at - time.monotonic()))
        except (queue.Full, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
            log.warning("W&B did not finish within %.0f s and was left; %s", SECONDS_TO_FINISH, self._later())
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


def run_id(folder: Path) -> str:
    """The id of the stage's run, the same each time the stage goes on."""
    file = folder / "wandb_id"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(6))
    return file.read_text().strip()


def _start_process(folder: Path) -> subprocess.Popen[str]:
    # A session of its own: Ctrl-C is for the training, which then ends the run in order.
    command = [sys.executable, "-m", "smalldata_vit.wandb_process"]
    with (folder / "wandb.log").open("a") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"} | os.environ,
            text=True,
            start_new_session=True,
        )
