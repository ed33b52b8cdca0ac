"""Runs the command line as a user does, small and on one core, and looks at what it left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.checkpoints import newest_whole

ROOT = Path(__file__).parent.parent

TINY = (
    "trainer=cpu",
    "store=null",
    "report=false",
    "arch.depth=2",
    "arch.width=16",
    "arch.heads=2",
    "pretrain.evaluator=[knn]",
    "pretrain.judge_untrained=false",
    "pretrain.pixel_baseline=false",
    "finetune.pixel_baseline=false",
    "method.prototypes=32",
    "method.hidden=16",
    "method.bottleneck=8",
)
TINY_SUPERVISED = tuple(word for word in TINY if not word.startswith(("method.", "pretrain.")))

FINETUNE = (
    *TINY_SUPERVISED,
    "method=supervised",
    "finetune.views=one_crop",
    "method.mixing={_target_: smalldata_vit.parts.mixing.Mixing, probability: 1.0, mixup_alpha: 1.0, "
    "cutmix_alpha: 1.0, switch: random, cutmix_share: 0.5, fold: false}",
    "arch.drop_path_rate=0.3",
    "dataset.labels_per_class=null",
)
"""Fine-tuning from scratch with what couples images and draws random masks."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The tests' environment without anything that a launcher or a coverage tool may have left."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | dict(extra or {})


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *words]


def run(*words: str, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command(*words), cwd=cwd or ROOT, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def succeed(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end and insist on success."""
    done = run(*words, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def start(*words: str) -> subprocess.Popen[str]:
    """Start in a session of its own, so that a signal can reach the whole tree or one process of it."""
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> bool:
    """Whether the condition came true before the process ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.poll() is not None:
            return condition()
        time.sleep(0.005)
    raise TimeoutError("neither the condition nor the end of the process came")


def saved_step(folder: Path) -> int:
    """The newest checkpoint's step by its name, -1 without one."""
    return max((int(p.stem.split("_")[1]) for p in folder.glob("checkpoints/step_*.ckpt")), default=-1)


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL for the command and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def checkpoint(stage: Path) -> dict[str, Any]:
    """The newest whole checkpoint of a stage."""
    found = newest_whole(stage / "checkpoints")
    assert found is not None, f"no whole checkpoint in {stage}"
    return torch.load(found.path, weights_only=True)


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Places where two nested containers are not bit-identical; what is measured of the machine is left out."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [place]
    if isinstance(one, dict):
        skipped = {"seconds", "joules"}
        if not isinstance(other, dict) or one.keys() - skipped != other.keys() - skipped:
            return [f"{place}: keys"]
        return [d for k in one if k not in skipped for d in differences(one[k], other[k], f"{place}.{k}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{place}: length"]
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{place}[{i}]")]
    return [] if one == other else [f"{place}: {one} != {other}"]
