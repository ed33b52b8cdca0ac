"""The collapse watch on real training: a forced collapse is named, a healthy run stays silent."""

from pathlib import Path

import pytest
from command import results, succeed

RUN = (
    "trainer=cpu",
    "store=null",
    "stages=[pretrain]",
    "pretrain.steps=200",
    "pretrain.evaluator=[knn]",
    "pretrain.judge_untrained=false",
    "pretrain.pixel_baseline=false",
    "pretrain.evaluate_every_epochs=null",
)
FORCED = ("arch.init=truncated_normal", "method.batch_norm=false")


@pytest.mark.parametrize(
    ("extra", "collapses"),
    [(FORCED, True), pytest.param((), False, marks=pytest.mark.slow)],
    ids=["forced", "healthy"],
)
def test_a_forced_collapse_is_named_with_the_knob_to_turn_and_a_healthy_run_stays_silent(
    tmp_path: Path, extra: tuple[str, ...], collapses: bool
) -> None:
    done = succeed(*RUN, *extra, f"output_dir={tmp_path}")
    warnings = results(tmp_path)["stages"]["pretrain"]["warnings"]
    assert bool(warnings) == collapses
    if collapses:
        assert "arch.init=width_aware" in warnings[0]
        assert warnings[0] in done.stdout
