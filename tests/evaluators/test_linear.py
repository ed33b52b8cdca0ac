import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from stand_ins import Fixed, classes, judge, part, shown

from smalldata_vit.evaluators.linear import LinearProbe


def probe() -> LinearProbe:
    return LinearProbe([1, 2, 5, 10], 10.0, [0.1, 1.0, 10.0, 100.0], normalize=True)


def test_accuracies_are_those_of_scikit_learn_on_the_first_places() -> None:
    values, label, place = classes(140, 8, seed=1)
    judged, truth, _ = classes(90, 8, seed=2)
    scores = judge(probe(), Fixed(), [shown(values, label, place), shown(judged, truth)])
    unit, judged_unit = F.normalize(values, dim=1).numpy(), F.normalize(judged, dim=1).numpy()
    for n in (1, 2, 5, 10, 20):
        keep = (place < n).numpy()
        known = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000).fit(unit[keep], label.numpy()[keep])
        name = "all" if n == 20 else str(n)
        assert scores[f"linear_accuracy@{name}"] == pytest.approx(known.score(judged_unit, truth.numpy()))


def test_names_stop_at_the_largest_class() -> None:
    scores = judge(probe(), Fixed(), [shown(*classes(21, 8, seed=1)), shown(*classes(7, 8, seed=2)[:2])])
    assert list(scores) == ["linear_accuracy@1", "linear_accuracy@2", "linear_accuracy@all"]


def test_same_for_any_batch_and_order() -> None:
    memory, judged = shown(*classes(70, 6, seed=1)), shown(*classes(50, 6, seed=2)[:2])
    results = []
    for batch in (1, 7, 64):
        pieces = [
            part(whole, rows) for whole in (judged, memory) for rows in torch.arange(len(whole.label)).split(batch)
        ]
        results.append(judge(probe(), Fixed(), reversed(pieces)))
    assert results[0] == results[1] == results[2]


def test_regularisation_is_chosen_on_validation_and_kept_for_the_test() -> None:
    memory = shown(*classes(140, 8, seed=1))
    validation, test = shown(*classes(90, 8, seed=2)[:2]), shown(*classes(90, 8, seed=3)[:2])
    evaluator = probe()
    evaluator.choose = True
    best = judge(evaluator, Fixed(), [memory, validation])
    assert evaluator.regularisation is not None
    chosen = dict(evaluator.regularisation)
    evaluator.choose = False
    judge(evaluator, Fixed(), [memory, test])
    assert evaluator.regularisation == chosen
    used = evaluator.recorded()["by_labels_per_class"]
    assert isinstance(used, dict)
    assert {n: facts["regularisation"] for n, facts in used.items()} == chosen
    assert {n: facts["bank_size"] for n, facts in used.items()} == {"1": 7, "2": 14, "5": 35, "10": 70, "all": 140}
    for c in (0.1, 1.0, 10.0, 100.0):
        alone = judge(LinearProbe([1, 2, 5, 10], c, [c], normalize=True), Fixed(), [memory, validation])
        assert all(best[name] >= alone[name] for name in best)


def test_without_a_choice_the_default_is_used_and_nothing_is_chosen_on_the_judged_images() -> None:
    evaluator = probe()
    judge(evaluator, Fixed(), [shown(*classes(70, 6, seed=1)), shown(*classes(50, 6, seed=2)[:2])])
    assert evaluator.regularisation is None
    assert evaluator.recorded()["chosen_on_validation"] is False
    used = evaluator.recorded()["by_labels_per_class"]
    assert isinstance(used, dict)
    assert {facts["regularisation"] for facts in used.values()} == {10.0}


def test_a_class_that_was_never_shown_counts_as_wrong() -> None:
    memory = shown(torch.eye(3)[:2], torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    judged = shown(torch.eye(3), torch.tensor([0, 1, 2]))
    evaluator = LinearProbe([], 10.0, [10.0], normalize=True)
    evaluator.choose = True
    assert judge(evaluator, Fixed(), [memory, judged])["linear_accuracy@all"] == pytest.approx(2 / 3)


def test_features_that_are_not_finite_give_no_number() -> None:
    judged = shown(torch.full((2, 6), torch.inf), torch.tensor([0, 1]))
    scores = judge(probe(), Fixed(), [shown(*classes(70, 6, seed=1)), judged])
    assert all(math.isnan(value) for value in scores.values())


def test_label_counts_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="each must be at least 1"):
        LinearProbe([0, 1], 10.0, [10.0], normalize=True)
