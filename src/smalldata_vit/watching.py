"""Test images that judge while a stage trains, and the weights of its last step as a candidate for the best."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from smalldata_vit.assembly import Assembly


@contextmanager
def test_images_watched(stage: Assembly) -> Iterator[None]:
    """Inside it the test images are the validation split of the stage's judge, where `dataset.validation=test`.

    The numbers are called val/… then, as those of every split that judges during training. Only this judge gets them:
    `Splits.val` stays None, so that no probe, baseline or evaluator chooses anything on test images.
    """
    before = stage.judge.splits
    if stage.splits.validation == "test":
        stage.judge.splits = {**before, "val": before["test"]}
    try:
        yield
    finally:
        stage.judge.splits = before


def judge_last(config: Mapping[str, Any], stage: Assembly) -> None:
    """With select=best judge the weights of the last step as those of the steps before it; every rank takes part.

    Without it the best epoch could never be the last one, which with a rate that falls to nothing it mostly is.
    """
    learner = stage.learner
    due = learner.judge_every and learner.step % learner.judge_every == 0
    with test_images_watched(stage):
        if config["select"] != "best" or not due or "val" not in stage.judge.splits:
            return
        learner.to(stage.device)
        numbers = stage.judge(stage.method, "val", periodic=True)
    learner.log_numbers(numbers)
    if numbers[config["best_by"]] > learner.best[0] and learner.save_best is not None:
        learner.best = (numbers[config["best_by"]], learner.step)
        learner.save_best(learner)
