"""Runs that logger=wandb wrote offline, read back by wandb's own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import command

SMALL = (
    "trainer=cpu",
    "store=null",
    "report=false",
    "arch.depth=2",
    "arch.width=16",
    "arch.heads=2",
    "finetune.pixel_baseline=false",
    "debug=true",
    "logger=[csv,wandb]",
    "logger.wandb.attention_images=0",
)
GUIDED = (*SMALL, "method=supervised", "guidance=adaptive", "guide.pixel_baseline=false")
"""Two stages of two steps: the guide, and what it guides."""


def start(*words: str, home: Path, unreachable: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command with nobody's account."""
    env, line = environment(home, unreachable), command.command(*words)
    return subprocess.run(line, cwd=command.ROOT, env=env, capture_output=True, text=True, timeout=500)


def environment(home: Path, unreachable: bool = False) -> dict[str, str]:
    """Nobody's account: offline, or with a key for a server that is not there."""
    env = {key: value for key, value in command.environment().items() if not key.startswith("WANDB_")}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temporary(home))}
    env["WANDB__STATS_SAMPLING_INTERVAL"] = "0.5"  # seconds; 15 else, and the runs are shorter
    nowhere = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    return env | (nowhere if unreachable else {"WANDB_MODE": "offline"})


def temporary(home: Path) -> Path:
    """The folder for temporary files of commands that have this home."""
    folder = home / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


class Offline:
    """One offline run.

    Arguments:
        folder: of the stage.
    """

    def __init__(self, folder: Path) -> None:
        found = list(folder.glob("wandb/offline-run-*"))
        assert len(found) == 1, f"{folder} holds {len(found)} runs"
        read = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(found[0])]
        done = subprocess.run(read, capture_output=True, text=True, check=True, timeout=60)
        self.records = [json.loads(line) for line in done.stdout.splitlines()]
        self.run = self.of("run")[0]
        self.config: dict[str, Any] = self.run["config"]["update"]
        self.history = [record["item"] for record in self.of("history")]
        self.summary: dict[str, Any] = {}
        for record in self.of("summary"):
            self.summary |= record.get("update", {})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind, in order."""
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def exit_code(self) -> int:
        """With which the run ended; AssertionError if it did not."""
        [end] = self.of("exit")
        return end.get("exit_code", 0)

    @property
    def keys(self) -> set[str]:
        """Of all rows; a picture counts under its own key."""
        return {key.split(".", 1)[0] if key.startswith("media/") else key for row in self.history for key in row}
