import math

import pytest
import torch
from stand_ins import Fixed, classes, judge, part, shown

from smalldata_vit.evaluators.knn import NearestNeighbours, nearest_class


def written_out(bank: torch.Tensor, label: torch.Tensor, query: torch.Tensor, k: int, temperature: float) -> int:
    cosines = [float(query @ b / (query.norm() * b.norm())) for b in bank]
    nearest = sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]
    votes: dict[int, float] = {}
    for i in nearest:
        votes[int(label[i])] = votes.get(int(label[i]), 0.0) + math.exp(cosines[i] / temperature)
    return max(votes, key=lambda c: votes[c])


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_vote_equals_the_one_written_out(k: int, temperature: float) -> None:
    bank, label, _ = classes(60, 6, seed=1)
    query, _, _ = classes(30, 6, seed=2)
    expected = [written_out(bank.double(), label, q, k, temperature) for q in query.double()]
    assert nearest_class(bank.double(), label, query.double(), k, temperature).tolist() == expected


def test_weights_decide_against_the_majority() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    label = torch.tensor([1, 0, 0])
    assert nearest_class(bank, label, query, 3, 0.07).tolist() == [1]
    assert nearest_class(bank, label, query, 3, 100.0).tolist() == [0]


def test_accuracy_is_the_same_for_any_batch_and_order() -> None:
    memory, judged = shown(*classes(70, 6, seed=1)), shown(*classes(50, 6, seed=2)[:2])
    evaluator, method, results = NearestNeighbours(k=5, temperature=0.07), Fixed(), set()
    for batch in (1, 7, 64):
        pieces = [
            part(whole, rows) for whole in (judged, memory) for rows in torch.arange(len(whole.label)).split(batch)
        ]
        results.add(judge(evaluator, method, reversed(pieces))["knn_accuracy"])
    assert len(results) == 1
    assert 0.3 < results.pop() < 1


def test_an_image_shown_twice_counts_once() -> None:
    memory = shown(torch.eye(2), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    judged = shown(torch.eye(2), torch.tensor([0, 0]))
    again = part(judged, torch.tensor([1, 1]))
    assert judge(NearestNeighbours(1, 0.07), Fixed(), [memory, judged, again]) == {"knn_accuracy": 0.5}


def test_k_is_capped_by_the_bank_and_recorded() -> None:
    evaluator = NearestNeighbours(k=20, temperature=0.07)
    memory, judged = shown(*classes(7, 6, seed=1)), shown(*classes(7, 6, seed=2)[:2])
    judge(evaluator, Fixed(), [memory, judged])
    assert evaluator.recorded() == {"k": 7, "temperature": 0.07, "bank_size": 7}


def test_features_that_are_not_finite_give_no_number() -> None:
    memory = shown(*classes(7, 6, seed=1))
    judged = shown(torch.full((2, 6), torch.nan), torch.tensor([0, 1]))
    assert math.isnan(judge(NearestNeighbours(5, 0.07), Fixed(), [memory, judged])["knn_accuracy"])


def test_a_judgement_forgets_the_one_before() -> None:
    evaluator, judged = NearestNeighbours(1, 0.07), shown(torch.eye(2), torch.tensor([0, 1]))
    right = shown(torch.eye(2), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    wrong = shown(torch.eye(2), torch.tensor([1, 0]), torch.zeros(2, dtype=torch.int64))
    assert judge(evaluator, Fixed(), [right, judged])["knn_accuracy"] == 1
    assert judge(evaluator, Fixed(), [wrong, judged])["knn_accuracy"] == 0


def test_missing_or_unlabelled_images_are_refused_in_words() -> None:
    judged = shown(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="shown no training images"):
        judge(NearestNeighbours(1, 0.07), Fixed(), [judged])
    hidden = shown(torch.eye(2), torch.tensor([0, -1]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="1 of 2 training images have a hidden label"):
        judge(NearestNeighbours(1, 0.07), Fixed(), [hidden, judged])
    with pytest.raises(ValueError, match="k is 0"):
        NearestNeighbours(0, 0.07)
