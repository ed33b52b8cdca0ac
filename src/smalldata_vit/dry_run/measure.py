"""A few real steps of a stage, timed: with its views, batch and device, from random weights, and nothing is kept."""

import gc
import logging
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch

from smalldata_vit import guide_maps
from smalldata_vit.assembly import Assembly, assemble, course_of
from smalldata_vit.contracts import Method
from smalldata_vit.data.course import Course
from smalldata_vit.data.passes import on
from smalldata_vit.data.splits import Splits
from smalldata_vit.dry_run.memory import bytes_of, forget_peak, peak
from smalldata_vit.exactness import exact_float32
from smalldata_vit.finishing import images_seen
from smalldata_vit.fitting import largest_forward, limit
from smalldata_vit.flops import costs, spent
from smalldata_vit.hardware import device_of, devices_of
from smalldata_vit.journal import Journal
from smalldata_vit.judging import IMAGES_AT_ONCE, Judge, judged
from smalldata_vit.parts.guidance_stored import StoredMaps

UNSEEN = 2
"""Steps before the first that counts: they find memory and compile."""
LEAST, MOST = 3, 40
"""Steps that count."""
SECONDS = 3.0
"""After so many no further step is begun, if there were enough."""


@dataclass(frozen=True)
class Measured:
    """What a stage's steps are and cost.

    Arguments:
        course: the stage's length and batches, on all of its devices.
        devices: processes of the stage, on all machines; one was measured, with its share of a batch.
        parameters: numbers that train.
        images_seen, flops: of the whole stage, as results.json has them.
        step_seconds: of one step; `first_seconds`: of the first, beyond that.
        judged_seconds: of one image that an evaluator is shown, without what evaluators fit.
        memory: bytes at the peak, of the accelerator or else of the process.
        checkpoint: bytes of one.
        method: of these the bytes of the method's weights alone.
        maps: bytes of a guide's stored maps.
    """

    course: Course
    devices: int
    device: str
    parameters: int
    images_seen: int
    flops: float
    step_seconds: float
    first_seconds: float
    judged_seconds: float
    memory: int
    checkpoint: int
    method: int
    maps: int


class Stopwatch(lightning.Callback):
    """Notes when steps begin and end, and ends training when it has seen enough."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step has ended."""
        if learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)
        self.marks.append(time.perf_counter())
        seen = len(self.marks) - UNSEEN
        if seen >= MOST or (seen >= LEAST and self.marks[-1] - self.marks[UNSEEN - 1] > SECONDS):
            trainer.should_stop = True

    def seconds(self, began: float) -> tuple[float, float]:
        """Of a step, and of the first beyond that."""
        steps = [after - before for before, after in zip([began, *self.marks], self.marks, strict=False)]
        usual = statistics.median(steps[UNSEEN:] or steps[-1:])
        return usual, max(0.0, steps[0] - usual)


def measured(config: Mapping[str, Any], splits: Splits) -> Measured:
    """What training a stage costs. Errors are those that the stage itself would raise."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # lines about hardware do not belong here
    device = device_of(config["trainer"])
    devices = devices_of(config["trainer"], device) * config["trainer"]["nodes"]
    forget_peak(device)
    stage = assemble(one_devices_share(config, devices), splits, Path(), Journal(None, config["stage"]), [], "dry run")
    learner = stage.learner
    course = course_of(config, stage.facts.num_images, devices, stage.method, Journal(None, config["stage"]))
    learner.to(device)
    maps = stand_in_maps(stage)
    cost = costs(learner, stage.data.step(0))
    limit(stage, largest_forward(config, stage, Journal(None, config["stage"])))
    usual, first = timed(stage)
    weights = bytes_of(learner.method.state_dict())
    found = Measured(
        course=course,
        devices=devices,
        device=stage.trainer.accelerator.name(),
        parameters=sum(p.numel() for p in stage.method.parameters() if p.requires_grad),
        images_seen=0,
        flops=0.0,
        step_seconds=usual,
        first_seconds=first,
        judged_seconds=seconds_an_image(stage.judge, stage.method, device),
        memory=peak(device),
        checkpoint=bytes_of(learner.state_dict()) + bytes_of([o.state_dict() for o in stage.trainer.optimizers]),
        method=weights,
        maps=maps,
    )
    learner.course, learner.step = course, course.total_steps
    seen = images_seen(learner)
    del stage, learner
    gc.collect()
    return replace(found, images_seen=seen, flops=spent(cost, seen, course.total_steps, 0))


def one_devices_share(config: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """The config of a stage of one process that does in a step what each of several would do."""
    trainer = {**config["trainer"], "devices": 1, "nodes": 1, "steps_at_once": 1}
    return {**config, "trainer": trainer, "batch_size": max(1, -(-config["batch_size"] // devices))}


def timed(stage: Assembly) -> tuple[float, float]:
    """Train a few steps that leave nothing; seconds of one, and of the first beyond that."""
    learner, watch = stage.learner, Stopwatch()
    learner.save, learner.judge_every, learner.save_every_seconds = lambda learner: None, None, float("inf")
    callbacks: list[Any] = stage.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(watch)
    began = time.perf_counter()
    stage.trainer.fit(learner, stage.data)
    if learner.interrupted:
        raise KeyboardInterrupt
    return watch.seconds(began)


def stand_in_maps(stage: Assembly) -> int:
    """Give a stage whose guide's maps are stored empty ones that take no room; the bytes that the real ones will."""
    guidance = guide_maps.guidance_of(stage)
    if guidance is None:
        return 0
    images = stage.learner.images
    shapes = guide_maps.shapes_of_stages(guidance.guide)
    maps = [torch.zeros((1, *shape), device=stage.device).expand(len(images), *shape) for shape in shapes]
    sizes = torch.stack([images.heights, images.widths], dim=1).float()
    guidance.stored = StoredMaps(maps, sizes.to(stage.device))
    return guide_maps.size_of(shapes, len(images))


def seconds_an_image(judge: Judge, method: Method, device: torch.device) -> float:
    """Of showing one image to the encoder as evaluators do."""
    images = judge.memory
    index = torch.arange(min(IMAGES_AT_ONCE, len(images)), device=images.labels.device)
    with judged(method.to(device)), exact_float32(device):
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            method.encoder(judge.view(on(device, images.take(index))))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - began)
    return min(taken) / len(index)
