"""How often a classifier errs under common corruptions: mean corruption error, by corruption and by severity.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019,
arXiv:1903.12261.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smalldata_vit.contracts import Classifier, Evaluator, Method, Shown
from smalldata_vit.evaluators.collected import Collected


@runtime_checkable
class Corrupting(Protocol):
    """Gives images under corruptions."""

    names: Sequence[str]
    severities: int

    def __call__(
        self,
        images: Float[Tensor, "B 3 S S"],
        label: Int[Tensor, " B"],
        index: Int[Tensor, " B"],
        name: str,
        severity: int,
    ) -> Float[Tensor, "B 3 S S"]:
        """Images of these places in their split under a corruption, severities counted from 1."""

    def recorded(self) -> dict[str, Any]:
        """What was used, as plain values."""


class CorruptionError(Evaluator):
    """Error under each corruption and severity, and its mean; of test images alone, at the end of a stage.

    With E of a corruption c and severity s, CE_c = Σ_s E_{s,c} / Σ_s E^ref_{s,c} and mCE is the mean over c (section 4
    of the paper). Without a reference CE_c is the mean over s of E_{s,c}, as in tables of CIFAR-10-C.

    Arguments:
        source: of the images under corruptions.
        reference: errors (fractions) of the network that one compares with, the mean over severities or one a severity,
            for every corruption; the paper's is AlexNet. None: nothing is divided.
        most_images: only the first so many test images are judged, for a look; None: all.

    A validation split gives no numbers: arrays of corrupted test images have nothing to say of it.
    """

    periodic = False

    def __init__(
        self,
        source: Corrupting,
        reference: Mapping[str, float | Sequence[float]] | None = None,
        most_images: int | None = None,
    ) -> None:
        super().__init__()
        if most_images is not None and most_images < 1:
            raise ValueError(f"most_images={most_images}: it is 1 or more, or null for all")
        self.source, self.most_images = source, most_images
        self.reference = None if reference is None else referred(reference, source.names, source.severities)
        self.judged = Collected(torch.int64)
        self.errors: dict[str, list[float]] = {}
        self.num_images = 0

    def can_judge(self, method: Method) -> bool:
        """Only a method that names classes."""
        return isinstance(method, Classifier)

    def reset(self) -> None:
        """Forget all images."""
        self.judged.clear()

    def update(self, method: Method, shown: Shown) -> None:
        """Keep whether the class was right: of the image itself, then under each corruption and severity in order."""
        if shown.memory is not None or self.choose:
            return
        if not isinstance(method, Classifier):
            raise TypeError(f"{type(method).__name__} has no logits; judge it by evaluator knn or linear")
        rows = shown.index < (self.most_images or shown.index.max() + 1)
        image, label, index = shown.image[rows], shown.label[rows], shown.index[rows]
        if not len(index):
            return
        answers = [right(method.classify(image), label)]
        for name in self.source.names:
            for severity in range(1, self.source.severities + 1):
                answers.append(right(method.classify(self.source(image, label, index, name, severity)), label))
        self.judged.add(torch.stack(answers, dim=1), label, index, None)

    def compute(self) -> dict[str, float]:
        """`corruption_error` (mCE), `corruption_error/<name>` (CE), and `clean_error`; nothing of a validation split.

        Not a number where a logit is not finite.
        """
        if self.choose:
            return {}
        rows = self.judged.gathered("images to be judged")
        self.num_images = len(rows)
        answers = rows.values.double()
        error = torch.where((answers < 0).any(0), torch.nan, 1 - answers.mean(0)).tolist()
        clean, step = error[0], self.source.severities
        self.errors = {name: error[1 + n * step : 1 + (n + 1) * step] for n, name in enumerate(self.source.names)}
        each = {name: sum(errors) / step for name, errors in self.errors.items()}
        if self.reference is not None:
            each = {name: value / self.reference[name] for name, value in each.items()}
        mean = sum(each.values()) / len(each)
        return {"corruption_error": mean, "clean_error": clean} | {f"corruption_error/{n}": v for n, v in each.items()}

    def recorded(self) -> dict[str, object]:
        """Of the last judgement: errors by corruption (a list by severity) and by severity (the mean), and settings."""
        by_severity = [sum(errors) / len(self.errors) for errors in zip(*self.errors.values(), strict=True)]
        return {
            "num_images": self.num_images,
            "normaliser": "none" if self.reference is None else self.reference,
            "errors": self.errors,
            "by_severity": by_severity,
            "source": self.source.recorded(),
        }


def referred(
    reference: Mapping[str, float | Sequence[float]], names: Sequence[str], severities: int
) -> dict[str, float]:
    """The mean over severities of each corruption's reference error.

    ValueError: a corruption is missing, unknown or has another number of severities, or its error is not above 0.
    """
    if set(reference) != set(names):
        wrong = sorted(set(reference) ^ set(names))
        raise ValueError(f"the reference has to name {', '.join(names)}; missing or unknown: {', '.join(wrong)}")
    found = {}
    for name, given in reference.items():
        errors = list(given) if isinstance(given, Sequence) else [given] * severities
        if len(errors) != severities or min(errors) <= 0:
            raise ValueError(f"reference.{name}={given}: one error above 0, or {severities} of them, were expected")
        found[name] = sum(errors) / severities
    return found


@torch.no_grad()
def right(logits: Float[Tensor, "B C"], label: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """1 where the largest logit is the label's, else 0; -1 where a logit is not finite."""
    return (logits.argmax(1) == label).long().masked_fill(~logits.isfinite().all(1), -1)
