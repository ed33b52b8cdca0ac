"""What training costs: floating-point operations per image of one optimizer step, counted while it runs once."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from smalldata_vit.data.passes import Step
from smalldata_vit.learner import Learner


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
