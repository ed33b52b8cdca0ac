"""Mean corruption error, counted by hand."""

import math
from typing import Any

import pytest
import torch
from stand_ins import Fixed, Naming, classes, judge, part, shown
from torch import Tensor

from smalldata_vit import config
from smalldata_vit.evaluators.corruptions import CorruptionError


class Turned:
    """Roll the logits of the first n images by one class; n is the severity, or three times that."""

    names = ("mild", "hard")
    severities = 3

    def __call__(self, images: Tensor, label: Tensor, index: Tensor, name: str, severity: int) -> Tensor:
        rolled = index < severity * {"mild": 1, "hard": 3}[name]
        return torch.where(rolled[:, None, None, None], images.roll(1, -1), images)

    def recorded(self) -> dict[str, Any]:
        return {"turned": True}


def perfect(images: int = 10) -> Any:
    label = torch.arange(images) % 4
    return shown(torch.eye(4)[label], label)


def test_errors_are_counted_by_corruption_and_severity() -> None:
    evaluator = CorruptionError(Turned())
    scores = judge(evaluator, Naming(), [perfect()])
    assert scores == pytest.approx(
        {
            "clean_error": 0.0,
            "corruption_error/mild": 0.2,
            "corruption_error/hard": 0.6,
            "corruption_error": 0.4,
        }
    )
    used = evaluator.recorded()
    assert used["errors"] == {"mild": pytest.approx([0.1, 0.2, 0.3]), "hard": pytest.approx([0.3, 0.6, 0.9])}
    assert used["by_severity"] == pytest.approx([0.2, 0.4, 0.6])
    assert (used["num_images"], used["normaliser"], used["source"]) == (10, "none", {"turned": True})


def test_a_reference_divides_each_corruptions_sum_over_severities() -> None:
    reference = {"mild": [0.2, 0.3, 0.5], "hard": 0.8}
    evaluator = CorruptionError(Turned(), reference)
    scores = judge(evaluator, Naming(), [perfect()])
    assert scores["corruption_error/mild"] == pytest.approx((0.1 + 0.2 + 0.3) / (0.2 + 0.3 + 0.5))
    assert scores["corruption_error"] == pytest.approx((0.6 + 0.6 / 0.8) / 2)
    assert evaluator.recorded()["normaliser"] == {"mild": pytest.approx(1 / 3), "hard": pytest.approx(0.8)}


def test_same_for_any_batch_and_repetition() -> None:
    judged = shown(*classes(16, 7, seed=1)[:2])
    expected = judge(CorruptionError(Turned()), Naming(), [judged])
    for batch in (1, 5, 64):
        pieces = [part(judged, rows) for rows in torch.arange(16).split(batch)]
        assert judge(CorruptionError(Turned()), Naming(), [*pieces, pieces[0]]) == expected


def test_only_the_first_images_are_judged_where_a_look_is_asked_for() -> None:
    evaluator, whole = CorruptionError(Turned(), most_images=4), perfect()
    pieces = [part(whole, rows) for rows in torch.arange(10).split(3)]
    assert judge(evaluator, Naming(), pieces)["corruption_error/mild"] == pytest.approx((1 + 2 + 3) / 12)
    assert evaluator.recorded()["num_images"] == 4


def test_a_validation_split_gives_no_numbers() -> None:
    evaluator = CorruptionError(Turned())
    evaluator.choose = True
    assert judge(evaluator, Naming(), [perfect()]) == {}


def test_it_judges_at_the_end_of_a_stage_only_and_needs_no_training_images() -> None:
    assert CorruptionError.periodic is False
    assert CorruptionError.needs_memory is False


def test_logits_that_are_not_finite_give_no_number() -> None:
    scores = judge(CorruptionError(Turned()), Naming(), [shown(torch.full((2, 4), torch.nan), torch.tensor([0, 1]))])
    assert all(math.isnan(value) for value in scores.values())


def test_only_methods_that_name_classes_can_be_judged() -> None:
    assert CorruptionError(Turned()).can_judge(Naming())
    assert not CorruptionError(Turned()).can_judge(Fixed())
    with pytest.raises(TypeError, match="Fixed has no logits"):
        judge(CorruptionError(Turned()), Fixed(), [perfect()])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"mild": 0.3}, "missing or unknown: hard"),
        ({"mild": 0.3, "hard": 0.2, "snow": 1}, "missing or unknown: snow"),
        ({"mild": [0.3, 0.2], "hard": 0.2}, r"reference.mild=\[0.3, 0.2\]: one error above 0, or 3 of them"),
        ({"mild": 0.3, "hard": 0}, "reference.hard=0: one error above 0"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(reference: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CorruptionError(Turned(), reference)


def test_the_option_takes_the_statistics_of_the_stages_dataset() -> None:
    cfg = config.compose(["method=supervised", "dataset=cifar10", "arch=vit_gani", "finetune.evaluator=[corruptions]"])
    config.check(cfg)
    source = config.stage_config(cfg, "finetune")["evaluator"]["corruptions"]["source"]
    assert source["mean"] == [0.4914, 0.4822, 0.4465]
    assert source["std"] == [0.2470, 0.2435, 0.2616]
