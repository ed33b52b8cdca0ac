"""`bench command`: images a second through the real command, beside the bare loop with torch's DataLoader."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from smalldata_vit.bench import recipes
from smalldata_vit.bench.data import MEAN, STD
from smalldata_vit.bench.harness import Contender, Table, Turn, clock, compared
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.pictures import photographs, write_class_folders
from smalldata_vit.bench.plain import PlainDINO, bare_epochs
from smalldata_vit.bench.runs import BF16
from smalldata_vit.bench.step import DINO, Settings
from smalldata_vit.composition import CONF, option

AT_ONCE = 8
"""Steps in one of Lightning's batches, as in `conf/trainer/`; the first eight are not counted, the next sixteen are."""


class MultiCrop(torch.utils.data.Dataset):
    """Pictures in memory, each given as a list of views made by torchvision's Pillow transforms."""

    def __init__(self, count: int, side: int) -> None:
        groups = option("views", "multicrop")["groups"]
        self.images = [Image.fromarray(picture) for picture in photographs(count, side, side)]
        self.views = recipes.crops(groups, side, lambda group, view, size: recipes.pillow(group, view, size, MEAN, STD))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> list[torch.Tensor]:
        return [view(self.images[place]) for view in self.views]


def bare(
    name: str, settings: Settings, bf16: bool, device: torch.device, wall: bool = False, workers: int = 0
) -> Contender:
    """The plain loop, pictures to views to steps."""
    torch.manual_seed(0)
    dino = PlainDINO(bf16, not bf16 or device.type == "cuda", device, side=settings.side)
    run = bare_epochs(dino, MultiCrop(settings.images, settings.side), settings.batch, workers)
    now, _ = clock(wall)

    def turn() -> Turn:
        begun = now()
        run(settings.steps)
        return Turn(settings.steps * settings.batch, now() - begun)

    return Contender(name, turn, f"{workers} workers" if workers else "")


def ours(name: str, words: Sequence[str], settings: Settings, folder: Path) -> Contender:
    """`python run.py …` in a process of its own, with a clock inside; its first eight steps are not counted."""
    root = folder / "images"
    if not root.exists():
        write_class_folders(root, settings.images, settings.side)

    def turn() -> Turn:
        target = folder / f"run_{time.monotonic_ns()}"
        marks = target.with_suffix(".json")
        typed = command(words, root, folder, settings, target, marks)
        done = subprocess.run(typed, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(typed)} ended with {done.returncode}: {done.stderr[-2000:]}")
        (first, begun), *_, (last, ended) = json.loads(marks.read_text())[AT_ONCE - 1 :]
        return Turn((last - first) * settings.batch, ended - begun)

    return Contender(name, turn, "python run.py", warms_up=False)


def command(words: Sequence[str], root: Path, folder: Path, settings: Settings, target: Path, marks: Path) -> list[str]:
    """The command line of one run."""
    data = ["dataset=folder", f"dataset.root={root}", f"dataset.cache={folder}/cache", "dataset.validation=none"]
    data += [f"dataset.image_size={settings.side}", f"output_dir={target}", "store=null"]
    length = [f"pretrain.batch_size={settings.batch}", "pretrain.pass_size=null"]
    length += [f"pretrain.steps={3 * AT_ONCE}", f"trainer.steps_at_once={AT_ONCE}"]
    clocks = ["+logger.marks._target_=smalldata_vit.bench.marks.Marks", "+logger.marks._partial_=true"]
    clocks.append(f"+logger.marks.file={marks}")
    judged = ["pretrain.evaluator=[knn]", "pretrain.judge_untrained=false", "pretrain.evaluate_every_epochs=null"]
    where = ["trainer=gpu" if torch.cuda.is_available() else "trainer=cpu"]
    return [sys.executable, str(CONF.parent / "run.py"), *data, *where, *DINO, *length, *judged, *clocks, *words]


def table(rounds: int, settings: Settings, folder: Path) -> Table:
    """bf16 where the hardware multiplies it, else float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fast = device.type == "cuda" or has_bf16()
    words: list[Any] = [BF16] if fast else []
    precision = "bf16" if fast else "float32"
    found = [bare("bare loop, float32", settings, False, device)]
    if fast:
        found.append(bare("bare loop, bf16", settings, True, device))
    found.append(ours(f"ours, {precision}", words, settings, folder))
    return compared("end to end, DINO 2x32+8x16 from pictures in memory", found, rounds)
