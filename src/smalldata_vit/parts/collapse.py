"""Signs that self-supervised training has collapsed: what to measure, and a watch that says it in words."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LEAST_INFORMATION = 0.02
"""Share of ln K below which the outputs say nothing about the images."""
LEAST_FEATURE_STD = 0.01
"""Of features brought to length 1, where 1 is the spread over the whole sphere."""
NOISE = 0.001
MENDING = 1.5
"""A sign of life this many times above its lowest is taken as the beginning of a recovery."""
WATCHED = ("teacher_entropy", "entropy_of_mean", "uniform_entropy", "feature_std", "effective_rank")
SENTENCES = {
    "uniform": (
        "every image gets the same, nearly uniform output, so there is nothing to learn from. Switch BatchNorm in the "
        "head on (method.batch_norm=true), start a narrow network with arch.init=width_aware, or lower "
        "method.teacher_temperature."
    ),
    "single": (
        "every image gets the same few prototypes. Raise method.teacher_temperature, or let the centre follow faster "
        "(a lower method.centre_momentum)."
    ),
    "constant": (
        "the encoder gives all images the same features. Start it with arch.init=width_aware, lower optimization.lr, "
        "or switch BatchNorm in the head on (method.batch_norm=true)."
    ),
}


def entropy(probability: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
    """-Σ_k p log p in nats over the last axis, 0 where p is 0."""
    return torch.special.entr(probability).sum(-1)


def feature_std(features: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """√D times the mean over dimensions of the standard deviation over images of features brought to length 1.

    1 for features spread evenly over the sphere, 0 when all are the same (Chen and He, arXiv 2011.10566, section 4.1).
    """
    unit = F.normalize(features, dim=1)
    return unit.std(0, correction=0).mean() * features.shape[1] ** 0.5


def effective_rank(features: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Directions among which the features' variance is spread, between 1 and D: (Σ λ)² / Σ λ² of the covariance.

    The participation ratio: it needs no eigenvalues, only a trace and a Frobenius norm, so every step can afford it.
    0 when all features are the same. Under autocast the products are rounded; three digits are enough for a watch.
    """
    centred = features - features.mean(0)
    gram = (centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred).float()
    return gram.trace().square() / gram.square().sum().clamp(min=torch.finfo(gram.dtype).tiny)


class Watch:
    """Looks at the numbers of a pretraining now and then, and names a collapse once it has lasted.

    It reads `teacher_entropy` H (the mean of the outputs' entropies), `entropy_of_mean` M (the entropy of the mean
    output), `uniform_entropy` U = ln K and `feature_std`, as far as they are there. M - H is how much an output says
    about its image: at 0 all images get the same answer. A collapse is named after `least_looks` looks and
    `least_steps` optimizer steps in which it did not begin to mend, once, and again only if it comes back: without
    BatchNorm a healthy run too can pass near the uniform output in its first steps.
    """

    def __init__(self, least_looks: int = 3, least_steps: int = 50) -> None:
        self.least_looks, self.least_steps = least_looks, least_steps
        self.kind: str | None = None
        self.looks, self.since, self.lowest, self.named = 0, 0, 0.0, False

    def look(self, numbers: Mapping[str, float], step: int) -> str | None:
        """The sentence that names the collapse and the knob to turn, or None."""
        kind, level = collapse_kind(numbers), sign_of_life(numbers)
        if kind is None or kind != self.kind:
            self.named = False
        if kind is None or kind != self.kind or level > MENDING * self.lowest:
            self.kind, self.looks, self.since, self.lowest = kind, 0, step, level
        self.looks, self.lowest = self.looks + 1, min(level, self.lowest)
        lasted = self.looks >= self.least_looks and step - self.since >= self.least_steps
        if kind is None or self.named or not lasted:
            return None
        self.named = True
        shown = ", ".join(f"{name} {numbers[name]:.4g}" for name in WATCHED if name in numbers)
        return f"Collapse at step {step}: {SENTENCES[kind]} ({shown})"


def sign_of_life(numbers: Mapping[str, float]) -> float:
    """What would grow if a collapse began to mend: the output's information about its image, or the features' spread.

    As a share of the highest value, at least 0.001, below which it is noise.
    """
    information = _information(numbers)
    return max(numbers.get("feature_std", 0.0) if information is None else information, NOISE)


def _information(numbers: Mapping[str, float]) -> float | None:
    """(M - H) / U, or None where a method does not tell."""
    if not {"teacher_entropy", "entropy_of_mean", "uniform_entropy"} <= numbers.keys():
        return None
    return (numbers["entropy_of_mean"] - numbers["teacher_entropy"]) / numbers["uniform_entropy"]


def collapse_kind(numbers: Mapping[str, float]) -> str | None:
    """Which collapse these numbers show: `uniform`, `single`, `constant` (keys of SENTENCES), or None."""
    information = _information(numbers)
    if information is not None and information < LEAST_INFORMATION:
        return "uniform" if numbers["teacher_entropy"] > numbers["uniform_entropy"] / 2 else "single"
    return "constant" if numbers.get("feature_std", 1.0) < LEAST_FEATURE_STD else None
