"""Where a stage's weights come from, and what happens once before its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from smalldata_vit import foreign, handoff
from smalldata_vit.assembly import Assembly
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.contracts import DataFacts, Method
from smalldata_vit.foreign import Weights
from smalldata_vit.foreign_timm import from_timm
from smalldata_vit.head_start import begin_head
from smalldata_vit.journal import Journal
from smalldata_vit.parts.guidance_networks import Guide
from smalldata_vit.results import read_json
from smalldata_vit.store import asked_of, guided_key, outcome_of, timm_key


@dataclass(frozen=True)
class Source:
    """What `start_from` leads to: scratch (neither a file nor a name of timm's), or weights."""

    key: str
    """What of it decides a stage's result: the source stage's own key, a file's sha256, timm's name and version."""
    file: Path | None = None
    timm: str | None = None
    described: str = "scratch"
    from_scratch: bool | None = True
    """Whether nothing but the experiment's own data made these weights; None where nobody can say."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """`start_from` itself."""
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
        asked = asked_of(start_from)
        if start_from.get("stage") is not None:
            found, outcome = left_by(target / start_from["stage"])
            scratch = outcome.get("from_scratch")
            key = f"{outcome['key']}/{asked}"
            return Source(key, found, None, start_from["stage"], scratch, start_from)
        if start_from.get("timm") is not None:
            name = start_from["timm"]
            return Source(f"{timm_key(name)}/{asked}", None, name, f"timm's {name}", False, start_from)
        if start_from.get("file") is None:
            raise ValueError("start_from names no stage, file or network of timm's; start_from=null is from scratch")
        file = Path(start_from["file"])
        weights = foreign.read(file, start_from["weights"], start_from.get("format") or "auto")
        scratch = outcome_of(file.parent.parent).get("from_scratch")
        return Source(f"{weights.sha256}/{asked}", file, None, str(file), scratch, start_from)

    def read(self) -> Weights:
        """The weights themselves. HandOffError: they are not to be had; ValueError: there are none, it is scratch."""
        if self.timm is not None:
            return from_timm(self.timm)
        if self.file is None:
            raise ValueError("a start from scratch has no weights to read")
        return foreign.read(self.file, self.asked["weights"], self.asked.get("format") or "auto")


def left_by(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The checkpoint that a finished stage hands on, and its outcome. FileNotFoundError: none that is whole."""
    outcome = outcome_of(folder)
    if outcome.get("status") != "finished":
        raise FileNotFoundError(f"{folder} holds no finished stage to start from; run {folder.name} first")
    found = newest_whole(folder / "checkpoints", "best" if outcome["selected"]["rule"] == "best" else "step")
    if found is None:
        raise FileNotFoundError(f"{folder / 'checkpoints'} holds no whole checkpoint to start from")
    return found.path, outcome


def begin(config: Mapping[str, Any], stage: Assembly, source: Source, journal: Journal) -> dict[str, Any]:
    """Judge the untrained encoder, load what the stage starts from; returns what is worth keeping of both."""
    stage.learner.to(stage.device)
    begun: dict[str, Any] = {"untrained": None, "hand_off": None, "start_from": None}
    begun["from_scratch"] = is_from_scratch(config, source)
    begun["guide"] = begin_guides(stage, source.guide, journal)
    if config["judge_untrained"]:
        journal.note("judging the untrained encoder")
        begun["untrained"] = {}
        for split in stage.judge.splits:
            begun["untrained"] |= stage.judge(stage.method, split)
    if source.file is None and source.timm is None:
        return begun
    weights = source.read()
    begun |= hand_over(stage.method, stage.facts, source, weights, journal)
    begin_head(config["start_from"]["head"], stage, weights, journal, begun["start_from"])
    return begun


def is_from_scratch(config: Mapping[str, Any], source: Source) -> bool | None:
    """Whether a stage owes nothing to images outside the experiment, its guide included; None if a file says nothing.

    A transfer within the experiment (another dataset's stage) counts as from scratch; the experiment names it.
    """
    known = [source.from_scratch, not config["arch"].get("pretrained")]
    known += [] if source.guide is None else [source.guide.from_scratch]
    return False if False in known else None if None in known else True


def hand_over(
    method: Method, facts: DataFacts, source: Source, weights: Weights, journal: Journal
) -> dict[str, dict[str, Any]]:
    """Load every network of a method from a source; returns the report, and what the source was."""
    asked = source.asked
    declared = asked.get("new") or (), asked.get("left_over") or ()
    for network in {id(n): n for n in method.sources().values()}.values():
        report = handoff.load_encoder(network, weights.encoder, asked["positions"], *declared)
    report = replace(report, left_over=[*report.left_over, *weights.left_over])
    translated = "" if weights.names is None else f", names of {weights.names} translated"
    journal.note(f"starts from {source.described} ({asked['weights']}{translated}): {report.summary()}")
    if source.from_scratch is False:
        journal.note(f"not from scratch: {source.described} was trained on other images")
    if weights.normalised is not None and not same_normalisation(weights.normalised, facts):
        mean, std = weights.normalised
        journal.warn(
            f"{source.described} was trained on images normalised with mean {list(mean)} and std {list(std)}; this "
            f"stage has {list(facts.mean)} and {list(facts.std)} (dataset.mean=, dataset.std=)"
        )
    told = {"weights": asked["weights"], "sha256": weights.sha256, "format": weights.format}
    return {"hand_off": report.as_dict(), "start_from": {"source": source.described, **told}}


def same_normalisation(normalised: tuple[tuple[float, ...], tuple[float, ...]], facts: DataFacts) -> bool:
    """Whether images are normalised as those were that weights were trained on."""
    return torch.allclose(torch.tensor(normalised), torch.tensor([facts.mean, facts.std]), atol=1e-4)


def begin_guides(stage: Assembly, source: Source | None, journal: Journal) -> dict[str, Any] | None:
    """Give the CNN that guides a stage its trained weights; None where nothing guides it.

    ValueError: no trained guide is known, or it was trained on images that were normalised otherwise.
    """
    guides = [module for module in stage.method.modules() if isinstance(module, Guide)]
    if not guides:
        return None
    if source is None or (source.file is None and source.timm is None):
        raise ValueError(
            "an untrained CNN guides nobody: add guide to stages, or give guide.start_from.file=<its checkpoint>"
        )
    weights, asked = source.read(), source.asked
    trained, where = normalisation_of(source, weights)
    for guide in guides:
        refuse_other_normalisation(guide, trained, where)
        report = handoff.load_encoder(
            guide.network, weights.encoder, new=asked.get("new") or (), left_over=asked.get("left_over") or ()
        )
    journal.note(f"is guided by {source.described}: {report.summary()}")
    told = {"weights": asked["weights"], "sha256": weights.sha256, "loaded": len(report.loaded)}
    return {"source": source.described, **told}


def normalisation_of(source: Source, weights: Weights) -> tuple[Mapping[str, Any], str]:
    """Mean and std of the images that weights were trained on, as far as they are known, and what says so."""
    if weights.normalised is not None:
        return dict(zip(("mean", "std"), weights.normalised, strict=True)), source.described
    record = Path() if source.file is None else source.file.parent.parent / "data.json"
    return (read_json(record) if record.is_file() else {}), str(record)


def refuse_other_normalisation(guide: Guide, trained: Mapping[str, Any], where: str) -> None:
    """ValueError if it is known that a guide's own training images were normalised otherwise."""
    for name, assumed in (("mean", guide.mean), ("std", guide.std)):
        found = trained.get(name)
        if found is not None and not torch.allclose(torch.tensor(found), torch.tensor(assumed), atol=1e-4):
            raise ValueError(
                f"the guide's own training images were normalised with {name}={list(found)}, and guidance.{name} says "
                f"{list(assumed)}: set guidance.mean and guidance.std to what {where} has, and views are converted"
            )
