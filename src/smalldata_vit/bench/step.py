"""`bench step`: our method through LightningModule and Trainer, beside the plain loop; views are made beforehand."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.assembly import Assembly
from smalldata_vit.bench.harness import Contender, Table, Turn, clock, compared, timed
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.pictures import write_class_folders
from smalldata_vit.bench.plain import PlainDINO, made_views
from smalldata_vit.bench.runs import BF16, ONE_BY_ONE
from smalldata_vit.bench.staged import Looking, look, stage_config, staged
from smalldata_vit.contracts import Drawn, Pictures, Views
from smalldata_vit.hardware import build_trainer

DINO = ("method=dino", "arch=vit_gani", "method.batch_norm=false", "stages=[pretrain]", "logger=csv")
"""Gani's DINO, ViT of 2.7 M weights, two views of 32 px and eight of 16."""
STEPS_UNSEEN = 2


class PreparedViews:
    """Makes views once and gives the same ones ever after, so that the rest of the step is timed alone."""

    def __init__(self, views: Views) -> None:
        self.views = views
        self.made: dict[int, Any] = {}

    def compile(self) -> None:
        """Compile the views inside."""
        self.views.compile()

    def path(self, device: torch.device) -> str:
        """As the views inside say."""
        return self.views.path(device)

    def draw(self, seed: int, step: int, heights: torch.Tensor, widths: torch.Tensor) -> Drawn:
        """The choices for the first step."""
        return self.views.draw(seed, 0, heights, widths)

    def __call__(self, pictures: Pictures, drawn: Drawn) -> Any:
        """The first views that were made of as many pictures."""
        if len(pictures) not in self.made:
            self.made[len(pictures)] = self.views(pictures, drawn)
        return self.made[len(pictures)]


@dataclass(frozen=True)
class Settings:
    """How large a step is, and how many of them make a turn."""

    batch: int = 16
    steps: int = 2
    side: int = 32
    images: int = 64


class Ours:
    """A stage as `run.py` puts it together, trained a few steps a turn by a Trainer of its own.

    Time runs from the end of one step to the end of a later one, so the loop and the data between steps are in it.
    """

    def __init__(
        self, words: Sequence[str], settings: Settings, folder: Path, prepared: bool, wall: bool = False
    ) -> None:
        self.now, _ = clock(wall)
        root = folder / f"images_{settings.images}_{settings.side}"
        if not root.exists():
            write_class_folders(root, settings.images, settings.side)
        device = "gpu" if torch.cuda.is_available() else "cpu"
        data = [f"dataset.root={root}", f"dataset.cache={folder}/cache", f"dataset.image_size={settings.side}"]
        length = [f"pretrain.batch_size={settings.batch}", "pretrain.pass_size=null", "pretrain.steps=1000000"]
        typed = ["dataset=folder", *data, "dataset.validation=none", f"trainer={device}", ONE_BY_ONE, *length, *words]
        self.config = stage_config(typed, "pretrain")
        self.settings = settings
        self.stage: Assembly = staged(self.config, Path(tempfile.mkdtemp(dir=folder)))
        if prepared:
            self.stage.learner.passage.views = PreparedViews(self.stage.learner.views)

    def turn(self) -> Turn:
        """Train on from where the learner is."""
        marks: list[float] = []
        self.stage.trainer = build_trainer(self.config, 1, self.stage.device, [])
        steps = self.settings.steps
        look(self.stage, Looking(STEPS_UNSEEN - 1, steps + 1, lambda: None, lambda: marks.append(self.now())))
        return Turn(steps * self.settings.batch, marks[-1] - marks[0])


def ours(name: str, words: Sequence[str], settings: Settings, folder: Path, prepared: bool = True) -> Contender:
    """Our step as a contender."""
    return Contender(name, Ours([*DINO, *words], settings, folder, prepared).turn)


def plain(
    name: str, settings: Settings, bf16: bool, fused_attention: bool, device: torch.device, tiny: bool = False
) -> Contender:
    """The plain loop as a contender; `tiny`: with a network of two narrow blocks, to be tried out."""
    torch.manual_seed(0)
    width, depth = (24, 2) if tiny else (192, 9)
    dino = PlainDINO(bf16, fused_attention, device, width, depth, settings.side)
    large, small = made_views(settings.batch, settings.side, 2, 8, device)
    return Contender(name, timed(lambda: dino.step(large, small), settings.batch))


def table(rounds: int, settings: Settings, folder: Path, peers: Sequence[Contender] = ()) -> Table:
    """The plain loop in float32 first; bf16 where the hardware multiplies it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = [plain("plain torch + timm, float32", settings, False, True, device)]
    found.append(ours("ours, float32", ["trainer.precision=32-true"], settings, folder))
    if device.type == "cuda" or has_bf16():
        best = device.type == "cuda"
        found.append(
            plain(
                f"plain torch + timm, bf16, {'fused' if best else 'explicit'} attention", settings, True, best, device
            )
        )
        found.append(ours("ours, bf16", [BF16], settings, folder))
    return compared("step, DINO 2x32+8x16, ViT of 2.7 M", [*found, *peers], rounds)
