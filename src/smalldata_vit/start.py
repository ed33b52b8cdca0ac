"""Where a stage's weights come from, and what happens once before its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalldata_vit import handoff
from smalldata_vit.assembly import Assembly
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.contracts import Classifier
from smalldata_vit.data.passes import on
from smalldata_vit.journal import Journal
from smalldata_vit.judging import IMAGES_AT_ONCE, judged
from smalldata_vit.parts.guidance_networks import Guide
from smalldata_vit.parts.linear_fit import fit_head
from smalldata_vit.results import read_json
from smalldata_vit.store import guided_key, outcome_of

PROBE_REGULARISATIONS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse strengths among which the start of a fitted head chooses by validation accuracy; the middle without one."""


@dataclass(frozen=True)
class Source:
    """What `start_from` leads to: scratch (no file), or a file with the weights called `weights`."""

    key: str
    """What of it decides a stage's result: the source stage's own key, or the file's sha256."""
    file: Path | None = None
    weights: str = "encoder"
    described: str = "scratch"
    guide: "Source | None" = None
    """Where the CNN comes from that guides the stage."""

    @staticmethod
    def of_stage(config: Mapping[str, Any], target: Path) -> "Source":
        """What a stage starts from and what guides it, below the experiment's output folder `target`."""
        source = Source.find(config["start_from"], target)
        if config.get("guide_from") is None:
            return source
        guide = Source.find(config["guide_from"], target)
        return replace(source, key=guided_key(source.key, guide.key), guide=guide)

    @staticmethod
    def find(start_from: Mapping[str, Any] | None, target: Path) -> "Source":
        """The source that `start_from` asks for, below the experiment's output folder `target`."""
        if start_from is None:
            return Source("scratch")
        asked = f"{start_from['weights']}/{start_from['head']}/{start_from['positions']}"
        if start_from.get("stage") is not None:
            folder = target / start_from["stage"]
            outcome = outcome_of(folder)
            if outcome.get("status") != "finished":
                raise FileNotFoundError(
                    f"{folder} holds no finished stage to start from; run {start_from['stage']} first"
                )
            family = "best" if outcome["selected"]["rule"] == "best" else "step"
            found = newest_whole(folder / "checkpoints", family)
            if found is None:
                raise FileNotFoundError(f"{folder / 'checkpoints'} holds no whole checkpoint to start from")
            return Source(f"{outcome['key']}/{asked}", found.path, start_from["weights"], start_from["stage"])
        if start_from.get("file") is None:
            raise ValueError("start_from names neither a stage nor a file; start_from=null is from scratch")
        file = Path(start_from["file"])
        _, sha256 = handoff.read_weights(file, start_from["weights"])
        return Source(f"{sha256}/{asked}", file, start_from["weights"], str(file))


def begin(config: Mapping[str, Any], stage: Assembly, source: Source, journal: Journal) -> dict[str, Any]:
    """Judge the untrained encoder, load what the stage starts from; returns what is worth keeping of both."""
    stage.learner.to(stage.device)
    begun: dict[str, Any] = {"untrained": None, "hand_off": None, "start_from": None}
    begun["guide"] = begin_guides(stage, source.guide, journal)
    if config["judge_untrained"]:
        journal.note("judging the untrained encoder")
        begun["untrained"] = {}
        for split in stage.judge.splits:
            begun["untrained"] |= stage.judge(stage.method, split)
    if source.file is None:
        return begun
    state, sha256 = handoff.read_weights(source.file, source.weights)
    for network in {id(n): n for n in stage.method.sources().values()}.values():
        report = handoff.load_encoder(network, state, config["start_from"]["positions"])
    journal.note(f"starts from {source.described} ({source.weights}): {report.summary()}")
    begun["hand_off"] = report.as_dict()
    begun["start_from"] = {"source": source.described, "weights": source.weights, "sha256": sha256}
    begin_head(config["start_from"]["head"], stage, source, journal, begun["start_from"])
    return begun


def begin_guides(stage: Assembly, source: Source | None, journal: Journal) -> dict[str, Any] | None:
    """Give the CNN that guides a stage its trained weights; None where nothing guides it.

    ValueError: no trained guide is known, or it was trained on images that were normalised otherwise.
    """
    guides = [module for module in stage.method.modules() if isinstance(module, Guide)]
    if not guides:
        return None
    if source is None or source.file is None:
        raise ValueError(
            "an untrained CNN guides nobody: add guide to stages, or give guide.start_from.file=<its checkpoint>"
        )
    state, sha256 = handoff.read_weights(source.file, source.weights)
    for guide in guides:
        refuse_other_normalisation(guide, source.file)
        report = handoff.load_encoder(guide.network, state)
    journal.note(f"is guided by {source.described}: {report.summary()}")
    return {"source": source.described, "weights": source.weights, "sha256": sha256, "loaded": len(report.loaded)}


def refuse_other_normalisation(guide: Guide, file: Path) -> None:
    """ValueError if the stage that this checkpoint lies in says that its images were normalised otherwise."""
    record = file.parent.parent / "data.json"
    trained = read_json(record) if record.exists() else {}
    for name, assumed in (("mean", guide.mean), ("std", guide.std)):
        found = trained.get(name)
        if found is not None and not torch.allclose(torch.tensor(found), torch.tensor(assumed), atol=1e-4):
            raise ValueError(
                f"the guide's own training images were normalised with {name}={list(found)}, and guidance.{name} says "
                f"{list(assumed)}: set guidance.mean and guidance.std to what {record} has, and views are converted"
            )


def begin_head(rule: str, stage: Assembly, source: Source, journal: Journal, record: dict[str, Any]) -> None:
    """The head by the rule: `new` as it was built, `keep` the source's, `probe` fitted to the encoder's features."""
    record["head"] = rule
    if rule == "new":
        return
    method = stage.method
    if not isinstance(method, Classifier):
        raise ValueError(
            f"start_from.head={rule}, but {type(method).__name__} has no head that names classes: head=new"
        )
    if rule == "keep":
        assert source.file is not None
        state, _ = handoff.read_weights(source.file, "head")
        handoff.load_encoder(method.head, state)
        return
    weight, bias, chosen = probe_head(stage, method)
    method.set_head(weight, bias)
    record["probe_regularisation"] = chosen
    journal.note(f"the head starts from a linear probe on the labelled images (C={chosen:g})")


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
