"""What a command would do with one stage: skip, resume or run it, for how long, and what that leaves on the disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from smalldata_vit import known_splits, skipping, store
from smalldata_vit.assembly import build_judge, build_method, facts_of
from smalldata_vit.data.splits import Splits
from smalldata_vit.dry_run.data import Looked, looked_at
from smalldata_vit.dry_run.measure import Measured, measured, seconds_an_image
from smalldata_vit.hardware import device_of
from smalldata_vit.manifests import newest_whole
from smalldata_vit.results import read_json

KEPT = 3
"""Checkpoints on the disk at once: the two that are kept, and the one that is being written."""

Outlook = Literal["skipped", "resumes", "runs"]


@dataclass(frozen=True)
class Forecast:
    """What a stage would be.

    Arguments:
        outlook: whether it is skipped as finished, resumes, or runs from its first step.
        folder: where it lies or will lie; the end of its name is unknown where its key is.
        key: of the stage in the store; None where only its images can tell.
        steps: that are left to do.
        measured: None for a stage that is skipped or that trains nothing.
        parameters: numbers that train, None for a stage that is skipped.
        shown: images that evaluators are shown, every evaluator and judgement counted.
        seconds: about, for all that is left, without what evaluators fit.
        remarks: what a person should know.
        writes: bytes of decoded images that will be kept, by folder.
    """

    stage: str
    outlook: Outlook
    folder: Path
    key: str | None
    steps: int = 0
    measured: Measured | None = None
    parameters: int | None = None
    shown: int = 0
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    writes: Mapping[Path, int] = field(default_factory=dict)

    @property
    def disk(self) -> int:
        """Bytes at most of its checkpoints and a guide's maps while it runs."""
        return 0 if self.measured is None else KEPT * self.measured.checkpoint + self.measured.maps


def forecast(config: dict[str, Any], target: Path, shared: str | None, keys: Mapping[str, str | None]) -> Forecast:
    """What the command would do with a stage below the output folder `target`; writes nothing.

    `shared` is the folder of the store; `keys` are those of the stages before it in this command.
    ChangedStage: the output folder holds the stage with other settings, and the command would refuse to go on.
    """
    name, looked = config["stage"], None
    split_hash = known_splits.recalled(config)
    if split_hash is None:
        looked = looked_at(config)
        split_hash = looked.splits.split_hash if looked.exact else None
    sources = source_keys(config, target, keys)
    key = None if split_hash is None or sources is None else store.stage_key(config["hash"], split_hash, sources)
    if key is None:
        unknown = "-…" if shared is not None else ""
        place = (target if shared is None else Path(shared)) / f"{name}{unknown}"
        return ahead(config, looked or looked_at(config), target, Forecast(name, "runs", place, None))
    if config["learner"] is not None:
        store.refuse_change(config, key, target / name)
    place = store.place_of(target, name, shared, key)
    outcome = store.outcome_of(place)
    if outcome.get("status") == "finished" and outcome.get("key") == key:
        return Forecast(name, "skipped", place, key, remarks=baseline_again(config, target))
    return ahead(config, looked or looked_at(config), target, Forecast(name, "runs", place, key))


def source_keys(config: Mapping[str, Any], target: Path, keys: Mapping[str, str | None]) -> str | None:
    """The part of a stage's key that says where its weights and its guide's come from; None where that is unknown.

    A stage that this command runs before it has its key already, before it has run.
    """

    def of(start_from: Mapping[str, Any] | None) -> str | None:
        stage = None if start_from is None else start_from.get("stage")
        if start_from is None or stage is None or stage not in keys:
            return skipping.source_key(start_from, target)
        return None if keys[stage] is None else f"{keys[stage]}/{store.asked_of(start_from)}"

    source, guide_from = of(config["start_from"]), config.get("guide_from")
    guide = None if guide_from is None else of(guide_from)
    return None if source is None or (guide is None and guide_from is not None) else store.guided_key(source, guide)


def baseline_again(config: Mapping[str, Any], target: Path) -> tuple[str, ...]:
    """A remark if a finished stage's SVM on raw pixels is missing in the results of this output folder."""
    file = target / "results.json"
    there = file.exists() and read_json(file).get("baselines", {}).get("pixels")
    wanted = config["pixel_baseline"] and not there
    return ("the SVM on raw pixels is not in this output folder's results.json: it is fitted",) if wanted else ()


def ahead(config: dict[str, Any], looked: Looked, target: Path, known: Forecast) -> Forecast:
    """The forecast of a stage that has something left to do."""
    remarks = [] if looked.remark is None else [looked.remark]
    if config["start_from"] is not None or config.get("guide_from") is not None:
        remarks.append("measured with random weights in place of those that it starts from or is guided by")
    if config["learner"] is None:
        return judging(config, looked, known, remarks)
    found = newest_whole(known.folder / "checkpoints") if known.key is not None else None
    cost = measured(config, looked.splits)
    left = cost.course.total_steps - (0 if found is None else found.step)
    if found is not None:
        remarks.append(f"resumes at step {found.step:,} of {cost.course.total_steps:,}")
    if config["pixel_baseline"]:
        remarks.append("the SVM on raw pixels is fitted after it, which was not measured")
    if cost.devices > 1:
        remarks.append(f"one of {cost.devices} devices was measured, without what they tell each other")
    shown = images_shown(config, looked.splits, cost, left, resumed=found is not None)
    return replace(
        known,
        outlook="runs" if found is None else "resumes",
        steps=left,
        measured=cost,
        parameters=cost.parameters,
        shown=shown,
        seconds=left * cost.step_seconds + cost.first_seconds + shown * cost.judged_seconds,
        remarks=tuple(remarks),
        writes=looked.writes,
    )


def judging(config: dict[str, Any], looked: Looked, known: Forecast, remarks: list[str]) -> Forecast:
    """The forecast of a stage that trains nothing."""
    device, method = device_of(config["trainer"]), build_method(config, facts_of(config, looked.splits))
    judge, evaluators = build_judge(config, looked.splits, device)
    judge.refuse_misfits(method)
    memory = sum(len(judge.memory) for one in evaluators.values() if one.needs_memory)
    shown = sum(len(evaluators) * len(images) + memory for images in judge.splits.values())
    return replace(
        known,
        parameters=sum(p.numel() for p in method.parameters() if p.requires_grad),
        shown=shown,
        seconds=shown * seconds_an_image(judge, method, device),
        remarks=tuple(remarks),
        writes=looked.writes,
    )


def images_shown(config: Mapping[str, Any], splits: Splits, cost: Measured, left: int, resumed: bool) -> int:
    """Images that evaluators are shown in what is left of a stage: before, every few epochs, and at the end."""
    judge, evaluators = build_judge(config, splits, device_of(config["trainer"]))
    memory = {name: len(judge.memory) if one.needs_memory else 0 for name, one in evaluators.items()}
    whole = sum(len(images) + memory[name] for images in judge.splits.values() for name in evaluators)
    often = 0 if "val" not in judge.splits else len(judge.splits["val"])
    now_and_then = sum(often + memory[name] for name, one in evaluators.items() if one.periodic) if often else 0
    each, total = config["evaluate_every_epochs"], cost.course.total_steps
    every = None if each is None else max(1, round(each * cost.course.steps_per_epoch))
    done = total - left
    times = 0 if every is None else len([s for s in range(every, total, every) if s > done])
    untrained = whole if config["judge_untrained"] and not resumed else 0
    return untrained + times * now_and_then + whole
