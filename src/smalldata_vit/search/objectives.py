"""What a search optimises: what a stage reaches on its validation images, and what a job costs; never a test metric."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from smalldata_vit import checks, config
from smalldata_vit.schema import STAGES
from smalldata_vit.words import ConfigError

COSTS = ("seconds", "flops")
"""Of a job, or of one of its stages; less is better."""

GIVEN_BY = {
    r"accuracy(_top5)?|macro_f1|per_class_accuracy/\d+": "accuracy",
    r"knn_accuracy": "knn",
    r"linear_accuracy@(\d+|all)": "linear",
}
"""Validation metrics of which more is better, and the evaluator that gives them."""

NAMES = (
    *(f"val/{name}" for name in ("accuracy", "accuracy_top5", "macro_f1", "knn_accuracy", "linear_accuracy@all")),
    *COSTS,
)
"""Those that one usually asks for."""


@dataclass(frozen=True)
class Objective:
    """A number of a finished job.

    Arguments:
        stage: whose number it is; None for a cost: the sum over all stages.
        metric: as results.json has it: val/accuracy, seconds.
        better: `higher` or `lower`.
    """

    stage: str | None
    metric: str
    better: str

    @property
    def name(self) -> str:
        """As one types it: finetune.val/accuracy."""
        return self.metric if self.stage is None else f"{self.stage}.{self.metric}"

    def of(self, results: Mapping[str, Any]) -> float:
        """The number in what `results.json` holds; ValueError with what there is if it is not there or not finite."""
        stages = results["stages"]
        if self.metric in COSTS:
            counted = stages.values() if self.stage is None else [stages[self.stage]]
            return float(sum(record[self.metric] for record in counted if self.metric in record))
        numbers = stages.get(self.stage, {}).get("metrics") or {}
        if self.metric not in numbers:
            there = ", ".join(name for name in numbers if name.startswith("val/")) or "none"
            raise ValueError(f"the job has no {self.name}; validation metrics of {self.stage}: {there}")
        value = numbers[self.metric]
        if value is None or not math.isfinite(value):
            raise ValueError(f"{self.name} is not a finite number")
        return float(value)


def objectives(texts: Sequence[str], cfg: DictConfig) -> list[Objective]:
    """What a search of jobs like `cfg` optimises; ConfigError for what it must not, or cannot know."""
    found = [objective(text, cfg) for text in texts]
    if not found or len({one.name for one in found}) < len(found):
        raise ConfigError(f"hydra.sweeper.objective={list(texts)}: name one metric or more, each once")
    return found


def objective(text: str, cfg: DictConfig) -> Objective:
    """One of them: `val/accuracy`, `pretrain.val/knn_accuracy`, `seconds`, `lower:val/my_error`."""
    direction, colon, rest = text.rpartition(":")
    if colon and direction not in ("higher", "lower"):
        raise ConfigError(f"hydra.sweeper.objective={text}: before the colon stands higher or lower")
    first, dot, last = rest.partition(".")
    stage, metric = (first, last) if dot and first in STAGES else (None, rest)
    if stage is not None and stage not in cfg.stages:
        raise ConfigError(f"hydra.sweeper.objective={text}: {stage} is not among stages=[{','.join(cfg.stages)}]")
    if metric in COSTS:
        return Objective(stage, metric, direction or "lower")
    if metric.startswith("test/"):
        raise ConfigError(
            f"hydra.sweeper.objective={text}: a search that looks at test images reports what it was chosen by. "
            f"Choose by val/{metric.removeprefix('test/')}; every trial is judged on test images once, for you to read"
        )
    evaluator = given_by(metric)
    if not metric.startswith("val/") or (evaluator is None and not colon):
        known = ", ".join(NAMES)
        raise ConfigError(
            f"hydra.sweeper.objective={text}: there is no such metric{checks.suggestion(metric, list(NAMES))} "
            f"There are {known}, each also as <stage>.<metric>; of an evaluator of your own say which way is better: "
            "higher:val/<name> or lower:val/<name>"
        )
    stage = stage or judged_last(cfg, evaluator)
    refuse_without_validation(text, stage, config.stage_config(cfg, stage), evaluator)
    return Objective(stage, metric, direction or "higher")


def given_by(metric: str) -> str | None:
    """The evaluator that gives a validation metric, as far as we know it."""
    name = metric.removeprefix("val/")
    return next((evaluator for pattern, evaluator in GIVEN_BY.items() if re.fullmatch(pattern, name)), None)


def judged_last(cfg: DictConfig, evaluator: str | None) -> str:
    """The last stage that an evaluator judges, the last one of all if none is."""
    judged = [stage for stage in cfg.stages if evaluator in cfg[stage].evaluator]
    return str((judged or list(cfg.stages))[-1])


def refuse_without_validation(text: str, stage: str, settings: Mapping[str, Any], evaluator: str | None) -> None:
    """ConfigError where the stage is not judged that way, or has no validation images of its own."""
    if evaluator is not None and evaluator not in settings["evaluator"]:
        judges = ",".join(settings["evaluator"])
        raise ConfigError(
            f"hydra.sweeper.objective={text}: {stage} is judged by [{judges}], and this number comes of {evaluator}: "
            f"{stage}.evaluator=[{','.join(filter(None, (judges, evaluator)))}]"
        )
    validation = str(settings["dataset"]["validation"])
    if validation in ("none", "None", "test"):
        raise ConfigError(
            f"hydra.sweeper.objective={text}: with dataset.validation={validation} {stage} has no validation images "
            "apart from the test images. Search with a share of the training images, dataset.validation=0.1"
        )
