import math

import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score
from stand_ins import Fixed, Naming, classes, judge, part, shown

from smalldata_vit.evaluators.accuracy import Accuracy


def test_four_images_counted_by_hand() -> None:
    logits = torch.tensor([[3.0, 1, 2], [0, 5, 1], [9, 1, 1], [1, 2, 3]])
    evaluator = Accuracy()
    scores = judge(evaluator, Naming(), [shown(logits, torch.tensor([0, 1, 1, 1]))])
    assert evaluator.confusion == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert scores["accuracy"] == 0.5
    assert scores["per_class_accuracy/0"] == 1
    assert scores["per_class_accuracy/1"] == pytest.approx(1 / 3)
    assert "per_class_accuracy/2" not in scores
    assert "accuracy_top5" not in scores
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_numbers_are_those_of_scikit_learn() -> None:
    logits, label, _ = classes(300, 9, seed=1, number=9)
    evaluator = Accuracy()
    scores = judge(evaluator, Naming(), [shown(logits, label)])
    named = logits.argmax(1).numpy()
    assert evaluator.confusion == confusion_matrix(label.numpy(), named, labels=range(9)).tolist()
    assert scores["macro_f1"] == pytest.approx(f1_score(label.numpy(), named, average="macro"))
    top5 = sum(int(row.argsort(descending=True)[:5].eq(truth).any()) for row, truth in zip(logits, label, strict=True))
    assert scores["accuracy_top5"] == pytest.approx(top5 / 300)


def test_same_for_any_batch_and_repetition() -> None:
    judged = shown(*classes(16, 7, seed=1)[:2])
    expected = judge(Accuracy(), Naming(), [judged])
    for batch in (1, 7, 64):
        pieces = [part(judged, rows) for rows in torch.arange(16).split(batch)]
        assert judge(Accuracy(), Naming(), [*pieces, pieces[0]]) == expected


def test_memory_is_not_judged() -> None:
    logits = torch.eye(3)
    memory = shown(logits, torch.tensor([1, 1, 1]), torch.arange(3))
    scores = judge(Accuracy(), Naming(), [memory, shown(logits, torch.tensor([0, 1, 2]))])
    assert scores["accuracy"] == 1


def test_logits_that_are_not_finite_give_no_number() -> None:
    evaluator = Accuracy()
    scores = judge(evaluator, Naming(), [shown(torch.full((2, 3), torch.nan), torch.tensor([0, 1]))])
    assert math.isnan(scores["accuracy"])
    assert evaluator.confusion == []


def test_only_methods_that_name_classes_can_be_judged() -> None:
    assert Accuracy().can_judge(Naming())
    assert not Accuracy().can_judge(Fixed())
    with pytest.raises(TypeError, match="Fixed has no logits"):
        Accuracy().update(Fixed(), shown(torch.eye(3), torch.arange(3)))


def test_labels_the_network_cannot_name_are_refused() -> None:
    with pytest.raises(ValueError, match="label 3; the network names 0 to 2"):
        judge(Accuracy(), Naming(), [shown(torch.eye(3), torch.tensor([0, 1, 3]))])
