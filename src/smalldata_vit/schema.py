"""The types of an experiment's config; what a group brings in is checked against signatures instead."""

from dataclasses import dataclass, field, fields
from typing import Any

MISSING: Any = "???"
"""OmegaConf's sign for a value that has to be given."""

INHERITED = ("dataset", "arch", "method", "guidance")
"""Groups that are chosen at the root and hold for every stage that does not name its own."""
OWN = ("views", "optimization", "evaluator")
"""Groups that every stage chooses for itself."""
ROOT = ("trainer", "logger", "plan", "experiment", "flavour")
"""Groups that a stage cannot choose."""


@dataclass
class StartFrom:
    """Where a stage's weights come from: a stage, a file, or timm."""

    stage: str | None = None
    file: str | None = None
    timm: Any = None  # a name of timm's (deit_tiny_patch16_224), or true: that of arch=timm
    format: str = "auto"  # of a file
    weights: str = "encoder"
    head: str = "new"
    positions: str = "bicubic"
    new: list[str] = field(default_factory=list)  # patterns of names that may begin anew
    left_over: list[str] = field(default_factory=list)  # patterns of names that need not be used


SOURCES = ("stage", "file", "timm")
"""Keys of `start_from` of which one says where weights come from."""


@dataclass
class Stage:
    """One training or measuring run of an experiment."""

    dataset: Any = MISSING
    arch: Any = MISSING
    method: Any = MISSING
    guidance: Any = field(default_factory=dict)
    views: Any = MISSING
    optimization: Any = MISSING
    evaluator: Any = field(default_factory=dict)
    learner: Any = MISSING
    evaluation_view: Any = field(
        default_factory=lambda: {"_target_": "smalldata_vit.data.views.PlainView", "_partial_": True}
    )
    image_size: int = field(default="${.dataset.image_size}")  # type: ignore[assignment]  # pixels
    epochs: float | None = None
    steps: int | None = None  # when given, instead of epochs
    batch_size: int | None = None  # images in a global batch
    pass_size: int | None = None  # images in one forward
    drop_last: bool = True
    passes_per_epoch: int = 1
    start_from: StartFrom | None = None
    select: str = "last"
    best_by: str = MISSING
    reads_labels: bool = MISSING
    judge_untrained: bool = False
    pixel_baseline: bool = False
    evaluate_every_epochs: float | None = None
    checkpoint_every_seconds: float = 30.0


def judging_stage() -> Stage:
    """A stage without what only training needs; its `learner` of null is the sign of it."""
    return Stage(views=None, optimization=None, learner=None)


@dataclass
class Trainer:
    """Where and in which precision stages run; the result does not depend on it."""

    accelerator: str = MISSING
    devices: int | str = MISSING  # number of processes on each machine, or auto
    nodes: int = 1  # machines; on several SLURM or torchrun starts the processes
    precision: str = MISSING
    compile: bool = False
    tf32: bool = True  # on a GPU, where float32 is asked for
    checkpoint_activations: bool = False
    max_batch: int | str | None = None  # most images in one forward where a recipe has no pass_size, or auto
    steps_at_once: int = 32  # optimizer steps in one Lightning batch
    deterministic: bool | str = False
    lightning: Any = MISSING


@dataclass
class Root:
    """A whole experiment."""

    seed: int = 0
    stages: list[str] = MISSING
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    output_dir: str | None = None
    store: str | None = None
    debug: bool = False
    report: bool = True  # report.html at the end of a command
    image_size: int = MISSING
    dataset: Any = MISSING
    arch: Any = MISSING
    method: Any = MISSING
    guidance: Any = field(default_factory=dict)
    trainer: Trainer = field(default_factory=Trainer)
    logger: Any = field(default_factory=dict)
    guide: Stage = field(default_factory=Stage)
    pretrain: Stage = field(default_factory=Stage)
    finetune: Stage = field(default_factory=Stage)
    finetune_448: Stage = field(default_factory=Stage)
    evaluate: Stage = field(default_factory=judging_stage)
    chosen: dict[str, str] = field(default_factory=dict)  # option of each group; written by composition alone


STAGES = tuple(f.name for f in fields(Root) if f.type is Stage)
"""Every stage that an experiment may have."""
GUIDE = "guide"
"""The stage that trains the CNN by which others are guided; its image size is its own, not the root's."""

EVALUATE = "evaluate"
"""The stage that trains nothing: it judges what another stage or a file left."""

ALLOWED_VALUES: dict[str, tuple[str, ...]] = {
    "select": ("last", "best"),
    "start_from.head": ("new", "keep", "probe"),
    "start_from.positions": ("bicubic", "scale_factor", "recomputed", "none"),
    "start_from.format": ("auto", "ours", "gani", "dino", "idmm", "lg", "timm"),
    "start_from.stage": tuple(stage for stage in STAGES if stage != EVALUATE),
}
"""Words that a key of a stage may have as its value."""

ALLOWED_FOR_TRAINER: dict[str, tuple[str, ...]] = {
    "accelerator": ("auto", "cpu", "gpu"),
    "precision": ("auto", "32-true", "bf16-mixed", "16-mixed"),
    "devices": ("auto",),
    "deterministic": ("warn",),
    "max_batch": ("auto",),
}
"""Words that a key of the trainer may have as its value."""
