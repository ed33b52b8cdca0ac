"""How often a classifier names the right class: top-1, top-5, macro-F1, by class, and the confusion matrix."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.contracts import Classifier, Evaluator, Method, Shown
from smalldata_vit.evaluators.collected import Collected

TOP = 5


class Accuracy(Evaluator):
    """Accuracies of a classifier's logits; top-5 only with more than five classes."""

    reads_logits = True

    def __init__(self) -> None:
        super().__init__()
        self.judged = Collected(torch.int64)
        self.num_classes = self.num_images = 0
        self.confusion: list[list[int]] = []

    def can_judge(self, method: Method) -> bool:
        """Only a method that names classes."""
        return isinstance(method, Classifier)

    def reset(self) -> None:
        """Forget all images."""
        self.judged.clear()

    def update(self, method: Method, shown: Shown) -> None:
        """Keep the classes with the highest logits; training images to learn from are passed over."""
        if shown.memory is not None:
            return
        if shown.logits is None:
            raise TypeError(f"{type(method).__name__} has no logits; judge it by evaluator knn or linear")
        self.judged.add(_ranked(shown.logits), shown.label, shown.index, None)

    def compute(self) -> dict[str, float]:
        """Fractions; `per_class_accuracy/c` is absent where no image of class c was judged.

        `macro_f1` is the mean over classes that have an image or a prediction. All are not a number where a logit is
        not finite, and `confusion` is empty then.
        """
        judged = self.judged.gathered("images to be judged")
        values, label = judged.values.cpu(), judged.label.cpu()
        num_classes, named = int(values[0, 0]), values[:, 1:]
        self.num_images, self.num_classes, self.confusion = len(label), num_classes, []
        if int(label.max()) >= num_classes:
            raise ValueError(f"a judged image has label {int(label.max())}; the network names 0 to {num_classes - 1}")
        if bool((named < 0).any()):
            return {name: float("nan") for name in ("accuracy", "macro_f1")}
        confusion = (label * num_classes + named[:, 0]).bincount(minlength=num_classes**2).view(num_classes, -1)
        self.confusion = confusion.tolist()
        scores = {"accuracy": float((named[:, 0] == label).double().mean()), "macro_f1": macro_f1(confusion)}
        if num_classes > TOP:
            scores["accuracy_top5"] = float((named == label[:, None]).any(1).double().mean())
        count = confusion.sum(1)
        right = confusion.diagonal()
        return scores | {f"per_class_accuracy/{c}": float(right[c] / count[c]) for c in range(num_classes) if count[c]}

    def recorded(self) -> dict[str, object]:
        """Images and classes of the last judgement, and the confusion matrix: rows true, columns named."""
        return {"num_images": self.num_images, "num_classes": self.num_classes, "confusion": self.confusion}


def macro_f1(confusion: Int[Tensor, "C C"]) -> float:
    """The mean over classes of 2·right / (images + predictions), classes with neither left out."""
    both = confusion.sum(0) + confusion.sum(1)
    return float((2 * confusion.diagonal()[both > 0] / both[both > 0].double()).mean())


def _ranked(logits: Float[Tensor, "B C"]) -> Int[Tensor, "B R"]:
    """The number of classes, then the classes of the highest logits in order; -1 where a logit is not finite."""
    named = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    named = named.masked_fill(~logits.isfinite().all(1, keepdim=True), -1)
    return torch.cat([torch.full_like(named[:, :1], logits.shape[1]), named], dim=1)
