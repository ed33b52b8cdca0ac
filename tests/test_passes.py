"""Processes share the passes of a step out and change nothing, on the real command line."""

from pathlib import Path

import pytest
import torch
from command import FINETUNE, TINY, checkpoint, succeed

FOUR_PASSES = (*TINY, "stages=[pretrain]", "pretrain.steps=8", "pretrain.pass_size=16")
SMOOTH = "optimization.optimizer.eps=0.01"
"""AdamW's usual eps turns the rounding of a gradient that is exactly zero (a key's bias) into steps of full length."""


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        ((*FOUR_PASSES, "method.batch_norm=true", f"pretrain.{SMOOTH}"), "pretrain"),
        pytest.param(
            (*FOUR_PASSES, "method.batch_norm=false", f"pretrain.{SMOOTH}"), "pretrain", marks=pytest.mark.slow
        ),
        ((*FINETUNE, "finetune.steps=8", "finetune.pass_size=16", f"finetune.{SMOOTH}"), "finetune"),
    ],
    ids=["DINO with BatchNorm", "DINO without", "fine-tuning with CutMix and drop path"],
)
def test_four_passes_in_one_process_equal_two_passes_in_each_of_two(
    tmp_path: Path, words: tuple[str, ...], stage: str
) -> None:
    """Tolerance 2e-6: the ranks add the same float32 gradients in another order."""
    succeed(*words, f"output_dir={tmp_path / 'one'}")
    succeed(*words, "trainer.devices=2", f"output_dir={tmp_path / 'two'}")
    one, two = (checkpoint(tmp_path / name / stage)["state_dict"] for name in ("one", "two"))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[name], value, rtol=2e-6, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")
