"""`bench memory`: what training steps add to a process, each contender in a process of its own (C8)."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.bench.goals import judged
from smalldata_vit.bench.harness import SHARE, Contender, Row, Table
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.peers import asked, found_in
from smalldata_vit.bench.plain import PlainDINO, made_views
from smalldata_vit.bench.runs import BF16
from smalldata_vit.bench.step import DINO, Ours, Settings

STEPS = 3
SIDE, WIDTH = 32, 192


def title(batch: int) -> str:
    """Of the table."""
    return f"memory that steps of {batch} images add"


def plain(bf16: bool, batch: int, folder: Path) -> Callable[[], object]:
    """Some steps of the plain loop."""
    dino = PlainDINO(bf16, not bf16, torch.device("cpu"))
    large, small = made_views(batch, SIDE, 2, 8, torch.device("cpu"))
    return lambda: [dino.step(large, small) for _ in range(STEPS)]


def ours(bf16: bool, batch: int, folder: Path) -> Callable[[], object]:
    """Some steps of a stage, its views included."""
    words = [*DINO, BF16 if bf16 else "trainer.precision=32-true"]
    stage = Ours(words, Settings(batch, STEPS, images=2 * batch), folder, prepared=False)
    return stage.turn


CONTENDERS: dict[str, Callable[[Path, int], Callable[[], object]]] = {
    "plain torch + timm, float32": lambda folder, batch: plain(False, batch, folder),
    "ours, float32": lambda folder, batch: ours(False, batch, folder),
    "plain torch + timm, bf16": lambda folder, batch: plain(True, batch, folder),
    "ours, bf16": lambda folder, batch: ours(True, batch, folder),
}


def theirs(batch: int, peers: Path | None) -> dict[str, Contender]:
    """The peers' contenders by name, their networks built and no step taken."""
    if peers is None:
        return {}
    device = torch.device("cpu")
    large, small = made_views(batch, SIDE, 2, 8, device)
    given: dict[str, Any] = {"batch": batch, "side": SIDE, "large": large, "small": small, "device": device}
    found = asked(found_in(peers), title(batch), given | {"width": WIDTH, "steps": STEPS})
    return {contender.name: contender for contender in found}


def status(name: str) -> int:
    """A line of the kernel's record of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def added(name: str, batch: int, peers: Path | None = None) -> float:
    """MiB that the resident set of this process grows by at its peak while a contender trains."""
    with tempfile.TemporaryDirectory() as folder:
        train = CONTENDERS[name](Path(folder), batch) if name in CONTENDERS else theirs(batch, peers)[name].turn
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = status("VmRSS")
        train()
        return (status("VmHWM") - before) / 2**20


def table(rounds: int, batch: int, peers: Path | None = None) -> Table:
    """MiB; ratios say how many times less than the plain loop in float32 a contender adds."""
    if not Path("/proc/self/clear_refs").exists():
        raise OSError("this benchmark reads the peak of the resident set from /proc, which only Linux has")
    others = {name: contender for name, contender in theirs(batch, peers).items() if contender.reference}
    names = [name for name in CONTENDERS if has_bf16() or "bf16" not in name]
    found = {name: [in_process(name, batch, peers) for _ in range(rounds)] for name in (*names, *others)}
    middle = {name: statistics.median(values) for name, values in found.items()}
    first, rows = middle[names[0]], []
    for name, values in found.items():
        wide = (max(values) - min(values)) / 2 / middle[name]
        more = {SHARE + other: middle[name] / middle[other] for other in (names[0], *others) if other != name}
        note = others[name].note if name in others else ""
        rows.append(Row(name, middle[name], wide, first / middle[name], wide, note, more))
    return judged(Table(title(batch), "MiB", "peak of the resident set", rounds, rows))


def in_process(name: str, batch: int, peers: Path | None = None) -> float:
    """`added` in a new process."""
    line = [sys.executable, "-m", "smalldata_vit.bench", "memory", "--only", name, "--batch", str(batch)]
    line += [] if peers is None else ["--peers", str(peers)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(line)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
