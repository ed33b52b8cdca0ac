"""How many images one forward can hold: what it keeps for the backward pass, measured, against the memory that is free.

It never tries until memory runs out: on a CPU that would end in the system killing the process.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalldata_vit.assembly import Assembly
from smalldata_vit.data.module import ImageData
from smalldata_vit.data.passes import Pass
from smalldata_vit.journal import Journal
from smalldata_vit.learner import Learner

TRIED = 8
"""Images in the forward that is measured."""
USED = 0.8
"""Of the free memory; the rest is for what else happens in the process."""
BESIDE = 1.5
"""Gradients of activations and scratch space, over what the forward keeps."""


def free_memory(device: torch.device) -> int:
    """Bytes that this process could still take on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


def kept_per_image(learner: Learner, one: Pass, precision: AbstractContextManager[Any]) -> float:
    """Bytes that a forward of the learner's method keeps for each image until the backward pass, its views included.

    `precision`: the context in which training runs its forwards.
    """
    method = learner.method
    weights = {p.untyped_storage().data_ptr() for p in [*method.parameters(), *method.buffers()]}
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    before = {name: buffer.clone() for name, buffer in method.named_buffers()}
    hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
    with precision, torch.compiler.set_stance("force_eager"), hooks, learner.passage.at(one):
        loss = learner.passage(one, learner.course.progress(learner.step))
        loss.total.detach()
    with torch.no_grad():
        for name, buffer in method.named_buffers():
            buffer.copy_(before[name])
    return sum(sizes.values()) / len(one.index)


def held_by_training(learner: Learner) -> int:
    """Bytes of gradients and optimizer state that come with the first step (AdamW's two numbers a weight)."""
    return sum(3 * p.numel() * p.element_size() for p in learner.method.parameters() if p.requires_grad)


def images_that_fit(learner: Learner, data: ImageData, free: int, precision: AbstractContextManager[Any]) -> int:
    """Most images in one forward of this stage, so that a device's share is cut into equal passes.

    MemoryError: not even one image fits.
    """
    one = data.step(learner.step).passes[0]
    tried = min(TRIED, len(one.index))
    per_image = kept_per_image(learner, first_of(one, tried), precision)
    most = int((USED * free - held_by_training(learner)) / (BESIDE * per_image))
    if most < 1:
        raise MemoryError(
            f"one image needs {BESIDE * per_image / 1e6:.0f} MB and the weights' gradients and optimizer state "
            f"{held_by_training(learner) / 1e6:.0f} MB; {free / 1e6:.0f} MB are free. A smaller arch or image_size, "
            f"fewer views, or trainer.checkpoint_activations=true would fit"
        )
    share = len(one.index)
    return math.ceil(share / math.ceil(share / most))


def first_of(one: Pass, images: int) -> Pass:
    """The first images of a pass, as a pass."""
    pictures = None if one.pictures is None else one.pictures[:images]
    return replace(one, index=one.index[:images], drawn=one.drawn.take(slice(0, images)), pictures=pictures)


def largest_forward(config: Mapping[str, Any], stage: Assembly, journal: Journal) -> int | None:
    """With trainer.max_batch=auto the most images that go through one forward, else None; said in the log."""
    if config["trainer"]["max_batch"] != "auto":
        return None
    course = stage.learner.course
    if course.pass_size is not None or stage.method.couples_images:
        journal.note("trainer.max_batch=auto changes nothing: the cut into passes belongs to this recipe")
        return None
    precision = stage.trainer.precision_plugin.forward_context()
    fits = images_that_fit(stage.learner, stage.data, free_memory(stage.device), precision)
    journal.note(f"trainer.max_batch=auto: {fits} images in one forward fit into memory")
    return fits


def limit(stage: Assembly, most: int | None) -> None:
    """Cut the passes of a stage to at most so many images, if any number was found."""
    if most:
        stage.learner.course = stage.data.course = replace(stage.learner.course, max_batch=most)
