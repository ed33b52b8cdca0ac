"""Whose steps are counted: methods as `run.py` trains them, and what a step of theirs may cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smalldata_vit.bench.floors import Transformer, distillation

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A stage whose steps are counted.

    Arguments:
        name: in the table.
        stage, words: what would be typed after `run.py`, but for the data.
        side: of the pictures, pixels.
        operations: most operations of a step without its views (None: not a goal, only shown).
        traffic: most bytes per image.
        flops: FLOP per image in closed form, of the stage's config.
    """

    name: str
    stage: str
    words: Sequence[str]
    side: int = 32
    operations: int | None = None
    traffic: float | None = None
    flops: Callable[[Config], float] | None = None


def dino_flops(config: Config, recomputes: bool = True) -> float:
    """The closed form for `arch=vit_gani method=dino` with any views; `recomputes`: as fused attention does."""
    arch, method, side = config["arch"], config["method"], config["image_size"]
    views = [(g["count"], round(g["size_ratio"] * side)) for g in config["views"]["groups"].values()]
    network = Transformer(arch["width"], arch["depth"], arch["mlp_ratio"], arch["patch_size"], True, recomputes)
    inner = [method["hidden"]] * (method["head_layers"] - 1)
    head = [arch["width"], *inner, method["bottleneck"], method["prototypes"]]
    return distillation(network, views, views[:1], head)


GANI = ("method=dino", "arch=vit_gani", "method.batch_norm=false", "+arch.attention=sdpa")
"""Gani's DINO with two views of 32 px and eight of 16, with the attention that a GPU takes."""
IDMM = ("method=idmm", "plan=idmm", "arch=deit_tiny", "arch.depth=3", "arch.patch_size=8", "pretrain.image_size=32")
"""Three blocks on few tokens: host reads, breaks and files do not depend on sizes."""
GUIDED = ("method=supervised", "arch=deit_tiny", "arch.depth=3", "arch.patch_size=8", "guidance=adaptive")
BF16 = "trainer.precision=bf16-mixed"
ONE_BY_ONE = "trainer.steps_at_once=1"
"""A batch of Lightning's is one step, so that single steps can be looked at."""

RUNS = (
    Run("DINO 2+8, float32", "pretrain", GANI, operations=1150, flops=dino_flops),
    Run("DINO 2+8, bf16", "pretrain", (*GANI, BF16), operations=1600, traffic=165e6, flops=dino_flops),
    Run("IDMM 2+4, bf16", "pretrain", (*IDMM, BF16)),
    Run("guided DeiT, bf16", "finetune", (*GUIDED, BF16)),
)
"""Another method is another line."""
