"""`bench methods`: steps of IDMM and of guided fine-tuning beside plain loops, and beside the authors' (C6).

Views are made beforehand. Networks are the published ones; batches are small, so that a step takes a second or so on
one core.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalldata_vit.bench.goals import judged
from smalldata_vit.bench.harness import Contender, Table, compared
from smalldata_vit.bench.machine import has_bf16
from smalldata_vit.bench.plain_guided import PlainGuided
from smalldata_vit.bench.plain_idmm import PlainIDMM
from smalldata_vit.bench.runs import BF16
from smalldata_vit.bench.same_work import refuse_differences, same_each_time
from smalldata_vit.bench.step import Ours, Settings

Given = dict[str, Any]
Peers = Callable[[str, Given], list[Contender]]
"""What the peers have for a title and what the others work on."""


@dataclass(frozen=True)
class Case:
    """A step.

    Arguments:
        title: of the table.
        stage, words: what would be typed after `run.py` for ours, but for data, device and length.
        settings: sizes.
        given: what the others work on.
        plain: the plain loop's step, and its weights.
    """

    title: str
    stage: str
    words: Sequence[str]
    settings: Settings
    given: Callable[[Settings, torch.device], Given]
    plain: Callable[[bool, Given], tuple[Callable[[], object], Sequence[Tensor]]]


def idmm_given(settings: Settings, device: torch.device) -> Given:
    """Views as a list of six (B, 3, H, W), two of large parts first, and each image's place."""
    views = [torch.randn(settings.batch, 3, settings.side, settings.side, device=device) for _ in range(6)]
    place = torch.randperm(settings.images, device=device)[: settings.batch]
    return {"views": views, "index": place, "instances": settings.images, **_shape(settings, device)}


def guided_given(settings: Settings, device: torch.device) -> Given:
    """Images (B, 3, H, W) and their labels."""
    images = torch.randn(settings.batch, 3, settings.side, settings.side, device=device)
    labels = torch.arange(settings.batch, device=device) % settings.classes
    return {"images": images, "labels": labels, "classes": settings.classes, **_shape(settings, device)}


def _shape(settings: Settings, device: torch.device) -> Given:
    return {"batch": settings.batch, "side": settings.side, "steps": settings.steps, "device": device}


def plain_idmm(bf16: bool, given: Given) -> tuple[Callable[[], object], Sequence[Tensor]]:
    """Two groups: two crops and four."""
    made = PlainIDMM(bf16, given["device"], given["instances"], given["side"])
    groups = [torch.cat(given["views"][:2]), torch.cat(given["views"][2:])]
    return lambda: made.step(groups, given["index"]), list(made.network.parameters())


def plain_guided(bf16: bool, given: Given) -> tuple[Callable[[], object], Sequence[Tensor]]:
    """One view of each image."""
    made = PlainGuided(bf16, given["device"], given["classes"], given["side"])
    return lambda: made.step(given["images"], given["labels"]), made.weights


CASES = {
    "idmm": Case(
        "step, IDMM 6x112, DeiT-Tiny, 2040 images",
        "pretrain",
        ("method=idmm", "arch=deit_tiny", "stages=[pretrain]", "logger=csv"),
        Settings(batch=8, steps=2, side=112, images=2040, pictures=16),
        idmm_given,
        plain_idmm,
    ),
    "guided": Case(
        "step, guided DeiT-Tiny 224, ResNet-56 at 32, 100 classes",
        "finetune",
        (
            "method=supervised",
            "plan=guided",
            "arch=deit_tiny",
            "guidance=constant",
            "guidance.pairs=[[0,0],[6,1],[11,2]]",
            "guidance.bn_mode=train",  # as published
            "stages=[finetune]",
            "logger=csv",
        ),
        Settings(batch=8, steps=2, side=224, images=200, pictures=32, classes=100),
        guided_given,
        plain_guided,
    ),
}


def precisions(device: torch.device) -> dict[str, tuple[bool, str]]:
    """Whether in bf16 and the word for it, by name; bf16 only where the hardware multiplies it."""
    every = {"float32": (False, "trainer.precision=32-true"), "bf16": (True, BF16)}
    return every if device.type == "cuda" or has_bf16() else {"float32": every["float32"]}


def table(name: str, rounds: int, folder: Path, smoke: bool = False, peers: Peers = lambda *_: []) -> Table:
    """One of `CASES`; ratios are against the plain loop in float32."""
    case, device = CASES[name], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = replace(case.settings, batch=2, steps=1) if smoke else case.settings
    given = case.given(settings, device)
    found: list[Contender] = []
    for precision, (bf16, word) in precisions(device).items():
        torch.manual_seed(0)
        step, weights = case.plain(bf16, given)
        found.append(same_each_time(f"plain torch + timm, {precision}", step, weights, settings.batch))
        stage = Ours([*case.words, word], settings, folder, prepared=True, name=case.stage)
        found.append(Contender(f"ours, {precision}", stage.turn, facts=stage.facts()))
    found += peers(case.title, given)
    refuse_differences(case.title, found)
    return judged(compared(case.title, found, rounds))
