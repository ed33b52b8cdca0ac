"""How evaluators are asked: what they share, what they are spared."""

import torch
from evaluators.stand_ins import Naming
from torch import Tensor

from smalldata_vit.contracts import Evaluator
from smalldata_vit.evaluators.accuracy import Accuracy
from smalldata_vit.evaluators.knn import NearestNeighbours
from smalldata_vit.judging import IMAGES_AT_ONCE, Judge
from smalldata_vit.predictions import Predictions

COUNT = IMAGES_AT_ONCE + 44


class Counting(Naming):
    """Counts the images that it names classes of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.named = 0

    def classify(self, image: Tensor) -> Tensor:
        self.named += len(image)
        return super().classify(image)


class Rows:
    """Images whose first row of pixels is the one-hot vector of their class (a `contracts.ImageSet`)."""

    def __init__(self) -> None:
        self.labels, self.device = torch.arange(COUNT) % 3, torch.device("cpu")
        self.heights = self.widths = torch.full((COUNT,), 3)

    def __len__(self) -> int:
        return COUNT

    def take(self, index: Tensor) -> Tensor:
        return torch.eye(3, dtype=torch.uint8)[self.labels[index]][:, None, None].expand(-1, 3, 3, -1).contiguous()


def judge_of(evaluators: dict[str, Evaluator]) -> Judge:
    return Judge({"test": Rows()}, Rows(), torch.arange(COUNT) // 3, Tensor.float, evaluators)


def test_evaluators_that_read_logits_share_one_forward() -> None:
    method = Counting()
    judge = Predictions([0.0] * 3, [1.0] * 3).beside(judge_of({"accuracy": Accuracy()}), method)
    assert judge(method, "test")["test/accuracy"] == 1
    assert method.named == COUNT


def test_a_classifier_is_not_asked_for_logits_that_nobody_reads() -> None:
    method = Counting()
    assert judge_of({"knn": NearestNeighbours(k=1, temperature=0.07)})(method, "test")["test/knn_accuracy"] == 1
    assert method.named == 0
