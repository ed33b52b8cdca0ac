"""How the head of a classifier begins: as it was built, as the source's, or fitted to the encoder's features."""

from typing import Any

import torch
from torch import Tensor

from smalldata_vit import handoff
from smalldata_vit.assembly import Assembly
from smalldata_vit.contracts import Classifier, Method
from smalldata_vit.data.passes import on
from smalldata_vit.foreign import Weights
from smalldata_vit.journal import Journal
from smalldata_vit.judging import IMAGES_AT_ONCE, judged
from smalldata_vit.parts.linear_fit import fit_head

PROBE_REGULARISATIONS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse strengths among which the start of a fitted head chooses by validation accuracy; the middle without one."""


def begin_head(rule: str, stage: Assembly, weights: Weights, journal: Journal, record: dict[str, Any]) -> None:
    """The head by the rule: `new` as it was built, `keep` the source's, `probe` fitted to the encoder's features."""
    record["head"] = rule
    if rule == "keep":
        keep_head(stage.method, weights)
    if rule == "probe":
        method = classifier(rule, stage.method)
        weight, bias, chosen = probe_head(stage, method)
        method.set_head(weight, bias)
        record["probe_regularisation"] = chosen
        journal.note(f"the head starts from a linear probe on the labelled images (C={chosen:g})")


def keep_head(method: Method, weights: Weights) -> None:
    """Give a method the source's head. ValueError: it has none, or one of other classes, or the source has none."""
    if not weights.head:
        raise handoff.HandOffError("start_from.head=keep, but the source has no head of a classifier: head=new")
    head = classifier("keep", method).head
    if weights.head["weight"].shape != head.weight.shape:
        raise handoff.HandOffError(
            f"start_from.head=keep, but the source's head has weights of {tuple(weights.head['weight'].shape)} "
            f"(classes, features) and this stage's of {tuple(head.weight.shape)}: start_from.head=new"
        )
    handoff.load_encoder(head, weights.head)


def classifier(rule: str, method: Method) -> Classifier:
    """The method, if it names classes; else ValueError."""
    if not isinstance(method, Classifier):
        raise ValueError(
            f"start_from.head={rule}, but {type(method).__name__} has no head that names classes: head=new"
        )
    return method


def probe_head(stage: Assembly, method: Classifier) -> tuple[Tensor, Tensor, float]:
    """A linear head fitted to the features of the labelled training images; C chosen on validation."""
    splits = stage.splits
    features, labels = probe_inputs(stage, method, splits.train.subset(splits.labelled))
    if splits.val is None:
        chosen = PROBE_REGULARISATIONS[len(PROBE_REGULARISATIONS) // 2]
        return (*fit_head(features, labels, stage.facts.num_classes, chosen, normalize=False), chosen)
    judged_on, truth = probe_inputs(stage, method, splits.val)
    fits = []
    for regularisation in PROBE_REGULARISATIONS:
        weight, bias = fit_head(features, labels, stage.facts.num_classes, regularisation, normalize=False)
        logits = judged_on @ weight.T + bias
        right = float((logits.argmax(1) == truth).float().mean())
        misfit = float(torch.nn.functional.cross_entropy(logits, truth))
        fits.append((right, -misfit, regularisation, weight, bias))
    best = max(fits, key=lambda fit: fit[:3])
    return best[3], best[4], best[2]


def probe_inputs(stage: Assembly, method: Classifier, images: Any) -> tuple[Tensor, Tensor]:
    """What a probe is fitted to for every image, (N, D), and the labels, (N,)."""
    features = []
    with judged(method):
        for first in range(0, len(images), IMAGES_AT_ONCE):
            index = torch.arange(first, min(first + IMAGES_AT_ONCE, len(images)), device=images.device)
            image = stage.judge.view(on(stage.device, images.take(index)))
            features.append(method.probe_input(method.encoder(image)))
    return torch.cat(features), images.labels.to(stage.device)
