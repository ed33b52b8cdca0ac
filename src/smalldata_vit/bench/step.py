"""`bench step`: our method through LightningModule and Trainer, beside the plain loop; views are made beforehand."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smalldata_vit.assembly import Assembly
from smalldata_vit.bench.counting import Counting
from smalldata_vit.bench.harness import Contender, Table, Turn, clock, compared
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.pictures import write_class_folders
from smalldata_vit.bench.plain import PlainDINO, made_views
from smalldata_vit.bench.runs import BF16
from smalldata_vit.bench.same_work import GFLOP, million, refuse_differences, same_each_time
from smalldata_vit.bench.staged import Looking, look, stage_config, staged
from smalldata_vit.contracts import Drawn, Pictures, Views
from smalldata_vit.hardware import build_trainer

DINO = ("method=dino", "arch=vit_gani", "method.batch_norm=false", "stages=[pretrain]", "logger=csv")
"""Gani's DINO, ViT of 2.7 M weights, two views of 32 px and eight of 16."""
TITLE = "step, DINO 2x32+8x16, ViT of 2.7 M"
STEPS_UNSEEN = 2


class PreparedViews:
    """Makes views once and gives the same ones ever after, so that the rest of the step is timed alone."""

    def __init__(self, views: Views) -> None:
        self.views = views
        self.made: dict[int, Any] = {}
        self.drawn: dict[int, Drawn] = {}

    def compile(self) -> None:
        """Compile the views inside."""
        self.views.compile()

    def path(self, device: torch.device) -> str:
        """As the views inside say."""
        return self.views.path(device)

    def draw(self, seed: int, step: int, heights: torch.Tensor, widths: torch.Tensor) -> Drawn:
        """The choices for the first step on as many pictures."""
        if len(heights) not in self.drawn:
            self.drawn[len(heights)] = self.views.draw(seed, 0, heights, widths)
        return self.drawn[len(heights)]

    def __call__(self, pictures: Pictures, drawn: Drawn) -> Any:
        """The first views that were made of as many pictures."""
        if len(pictures) not in self.made:
            self.made[len(pictures)] = self.views(pictures, drawn)
        return self.made[len(pictures)]


@dataclass(frozen=True)
class Settings:
    """How large a step is, and how many of them make a turn.

    Arguments:
        batch: images in a step.
        steps: in a turn.
        side: of the network's input, pixels.
        images: of the training set.
        pictures: side of the pictures on disk, pixels (None: as the input).
        classes: of the training set.
        at_once: steps in one of Lightning's batches, a divisor of `steps`; conf/trainer/ has 32.
    """

    batch: int = 16
    steps: int = 2
    side: int = 32
    images: int = 64
    pictures: int | None = None
    classes: int = 4
    at_once: int = 1


class Ours:
    """A stage as `run.py` puts it together, trained a few steps a turn by a Trainer of its own.

    Time runs from the end of one step to the end of a later one, so the loop and the data between steps are in it.

    Arguments:
        words: what would be typed after `run.py`, but for data, device and length.
        prepared: whether the views are made once, before what is timed.
        name: of the stage.
    """

    def __init__(
        self,
        words: Sequence[str],
        settings: Settings,
        folder: Path,
        prepared: bool,
        wall: bool = False,
        name: str = "pretrain",
    ) -> None:
        self.now, _ = clock(wall)
        stored = settings.pictures or settings.side
        root = folder / f"images_{settings.images}_{stored}_{settings.classes}"
        if not root.exists():
            write_class_folders(root, settings.images, stored, settings.classes)
        device = "gpu" if torch.cuda.is_available() else "cpu"
        data = [f"dataset.root={root}", f"dataset.cache={folder}/cache", f"dataset.image_size={settings.side}"]
        length = [f"{name}.batch_size={settings.batch}", f"{name}.pass_size=null", f"{name}.steps=1000000"]
        here = [f"trainer={device}", f"trainer.steps_at_once={settings.at_once}"]
        self.config = stage_config(["dataset=folder", *data, "dataset.validation=none", *here, *length, *words], name)
        self.settings = settings
        self.stage: Assembly = staged(self.config, Path(tempfile.mkdtemp(dir=folder)))
        if prepared:
            self.stage.learner.passage.views = PreparedViews(self.stage.learner.views)

    def turn(self) -> Turn:
        """Train on from where the learner is."""
        marks: list[float] = []
        batches, rest = divmod(self.settings.steps, self.settings.at_once)
        assert rest == 0, f"{self.settings.steps} steps are no multiple of {self.settings.at_once}"
        self._look(Looking(STEPS_UNSEEN - 1, batches + 1, lambda: None, lambda: marks.append(self.now())))
        return Turn(self.settings.steps * self.settings.batch, marks[-1] - marks[0])

    def _look(self, looking: Looking) -> None:
        self.stage.trainer = build_trainer(self.config, 1, self.stage.device, [])
        look(self.stage, looking)
        method = self.stage.learner.method
        if not all(bool(weight.isfinite().all()) for weight in method.parameters()):
            raise RuntimeError(f"{type(method).__name__}: weights are not finite after steps that were timed")

    def facts(self) -> dict[str, float]:
        """Weights that train, and FLOP that a step without its views asks for."""
        mode, stack = Counting(), ExitStack()
        self._look(Looking(STEPS_UNSEEN - 1, 1, lambda: stack.enter_context(mode), stack.close))
        images = self.settings.batch * self.settings.at_once
        return million(self.stage.learner.method.parameters()) | {GFLOP: mode.counts.total("flops") / 1e9 / images}


def ours(name: str, words: Sequence[str], settings: Settings, folder: Path, prepared: bool = True) -> Contender:
    """Our step as a contender."""
    stage = Ours([*DINO, *words], settings, folder, prepared)
    return Contender(name, stage.turn, facts=stage.facts())


def plain(
    name: str, settings: Settings, bf16: bool, fused_attention: bool, device: torch.device, tiny: bool = False
) -> Contender:
    """The plain loop as a contender; `tiny`: with a network of two narrow blocks, to be tried out."""
    torch.manual_seed(0)
    width, depth = (24, 2) if tiny else (192, 9)
    dino = PlainDINO(bf16, fused_attention, device, width, depth, settings.side)
    large, small = made_views(settings.batch, settings.side, 2, 8, device)
    return same_each_time(name, lambda: dino.step(large, small), dino.student.parameters(), settings.batch)


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
    refuse_differences(TITLE, [*found, *peers])
    return compared(TITLE, [*found, *peers], rounds)
