"""k-nearest-neighbour vote on an encoder's features, as in DINO (Caron et al., ICCV 2021, arXiv:2104.14294, app. F.1).

The vote is that of Wu et al. (CVPR 2018, arXiv:1805.01978, section 3.4).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.contracts import Evaluator, Method, Shown
from smalldata_vit.evaluators.collected import Collected
from smalldata_vit.parts.linear_fit import exact

CHUNK = 512
"""Judged images per similarity matrix: constant, so that no batch size or rank count reaches the arithmetic."""


class NearestNeighbours(Evaluator):
    """The share of judged images whose k nearest training images vote for the right class.

    `k`: neighbours, 20 in the paper, fewer where there are fewer training images. `temperature`: τ of the weight
    exp(cosine / τ), 0.07 in the papers.
    """

    needs_memory = True

    def __init__(self, k: int, temperature: float) -> None:
        super().__init__()
        if k < 1 or temperature <= 0:
            raise ValueError(f"k is {k} and temperature {temperature}; k must be at least 1, temperature positive")
        self.k, self.temperature = k, temperature
        self.memory, self.judged = Collected(torch.float32), Collected(torch.float32)
        self.used_k = self.bank_size = 0

    def can_judge(self, method: Method) -> bool:
        """Every method has an encoder."""
        return True

    def reset(self) -> None:
        """Forget both sets of images."""
        self.memory.clear()
        self.judged.clear()

    def update(self, method: Method, shown: Shown) -> None:
        """Keep the features of images to be judged or remembered."""
        into = self.judged if shown.memory is None else self.memory
        into.add(method.encoder(shown.image).float(), shown.label, shown.index, shown.memory)

    def compute(self) -> dict[str, float]:
        """`knn_accuracy`; not a number where a feature is not finite."""
        bank, judged = self.memory.gathered("training images"), self.judged.gathered("images to be judged")
        self.bank_size, self.used_k = len(bank), min(self.k, len(bank))
        if not (bank.values.isfinite().all() and judged.values.isfinite().all()):
            return {"knn_accuracy": float("nan")}
        named = nearest_class(exact(bank.values), bank.label, exact(judged.values), self.used_k, self.temperature)
        return {"knn_accuracy": float((named == judged.label.to(named.device)).double().mean())}

    def recorded(self) -> dict[str, object]:
        """What the last judgement used: k (after the cap), temperature, training images in the bank."""
        return {"k": self.used_k, "temperature": self.temperature, "bank_size": self.bank_size}


def nearest_class(
    bank: Float[Tensor, "N D"],
    bank_label: Int[Tensor, " N"],
    features: Float[Tensor, "Q D"],
    k: int,
    temperature: float,
) -> Int[Tensor, " Q"]:
    """The class with most votes among the k nearest by cosine, each vote weighing exp(cosine / temperature)."""
    bank, bank_label = F.normalize(bank, dim=1), bank_label.to(bank.device)
    num_classes = int(bank_label.max()) + 1
    named = []
    for chunk in F.normalize(features, dim=1).split(CHUNK):
        cosine, neighbour = (chunk @ bank.T).topk(k, dim=1)
        weight = ((cosine - 1) / temperature).exp()
        votes = F.one_hot(bank_label[neighbour], num_classes) * weight[:, :, None]
        named.append(votes.sum(1).argmax(1))
    return torch.cat(named)
