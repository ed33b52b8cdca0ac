"""A stage in one line, for its log: what runs, and which of the automatic choices were taken."""

from collections.abc import Mapping
from typing import Any

from smalldata_vit.assembly import Assembly


def describe(config: Mapping[str, Any], stage: Assembly) -> str:
    """One line that says what runs."""
    course, optimization = stage.learner.course, stage.learner.optimization
    weights = sum(p.numel() for p in stage.method.parameters() if p.requires_grad)
    cut = "one pass a device" if course.pass_size is None else f"passes of {course.pass_size}"
    return (
        f"{type(stage.method).__name__} on {course.images} images, {course.total_steps} steps of {course.batch_size} "
        f"({cut}), {weights:,} trainable parameters, peak learning rate {optimization.peak(course.batch_size):g}, "
        f"{stage.trainer.accelerator.name()} x {stage.trainer.world_size}, precision {stage.trainer.precision}; "
        f"{path_of(config, stage)}"
    )


def path_of(config: Mapping[str, Any], stage: Assembly) -> str:
    """Which of the automatic choices were taken, each with the key that changes it where it has one."""
    settings, cuda = config["trainer"], stage.device.type == "cuda"
    written_out = not cuda and str(stage.trainer.precision).startswith("bf16")
    optimizer: Any = stage.learner.optimization.build(stage.method, stage.learner.course.batch_size)
    chosen = [
        f"attention {'explicit' if written_out else 'SDPA'} (where arch.attention=auto)",
        f"{type(optimizer).__name__} {'fused' if optimizer.defaults['fused'] else 'unfused'} "
        f"(optimization.optimizer.fused)",
        f"views {stage.learner.views.path(stage.device)}",
        "compiled with inductor" if settings["compile"] else "network eager (trainer.compile)",
        *(["float32 products in TF32 (trainer.tf32)"] if cuda and settings["tf32"] else []),
        *(["activations recomputed (trainer.checkpoint_activations)"] if settings["checkpoint_activations"] else []),
        f"images on the {'GPU' if stage.learner.images.device.type == 'cuda' else 'CPU'}",
        *(["deterministic (trainer.deterministic)"] if settings["deterministic"] else []),
    ]
    return ", ".join(chosen)
