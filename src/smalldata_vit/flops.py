"""What training costs: floating-point operations per image of one optimizer step, counted while it runs once."""

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from smalldata_vit.data.passes import Step
from smalldata_vit.learner import Learner
from smalldata_vit.parts.guidance import Guidance


def costs(learner: Learner, step: Step) -> dict[str, float]:
    """What an image costs in a stage as it begins, and, where a CNN guides it, without the guide."""
    found = {"flops_per_image": per_image(learner, step)}
    for guidance in (m for m in learner.method.modules() if isinstance(m, Guidance)):
        with guidance.paused():
            found["flops_per_image_unguided"] = per_image(learner, step)
    return found


def spent(costs: Mapping[str, float], images: int, steps: int, steps_unguided: int) -> float:
    """FLOPs of a stage of so many images and steps, of which some went without the guide."""
    whole = costs["flops_per_image"]
    saved = whole - costs.get("flops_per_image_unguided", whole)
    return whole * images - saved * images * steps_unguided / steps


def per_image(learner: Learner, step: Step) -> float:
    """FLOPs (2 per multiply-add; matrix products and convolutions) of views, forward and backward, per image.

    Leaves the learner as it was: gradients are dropped, running statistics put back, buffers change only after steps.
    """
    one = step.passes[0]
    device = torch.device(learner.device)
    counted = {name: b.clone() for name, b in learner.method.named_buffers()}
    written = torch.compiler.set_stance("force_eager")
    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast(device.type, enabled=False),
        written,
        learner.passage.at(one),
    ):
        learner.passage(one, learner.course.progress(step.number)).total.backward()
    learner.method.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in learner.method.named_buffers():
            buffer.copy_(counted[name])
    return counter.get_total_flops() / len(one.index)
