"""What a whole experiment would be: its stages one by one, and in words."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from smalldata_vit import config as configuration
from smalldata_vit.console import duration, set_up_log
from smalldata_vit.data.room import gigabytes
from smalldata_vit.dry_run.stage import KEPT, Forecast, forecast
from smalldata_vit.stage_order import refuse_missing_sources
from smalldata_vit.stages import title

NAMED = 10
"""Columns of a line's name."""


@dataclass(frozen=True)
class Outlook:
    """What a whole experiment would be."""

    name: str
    target: Path
    stages: tuple[Forecast, ...]

    @property
    def seconds(self) -> float:
        """About, for all that is left."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def disk(self) -> int:
        """Bytes that will be written at most: checkpoints, a guide's maps, decoded images."""
        decoded = {place: size for stage in self.stages for place, size in stage.writes.items()}
        return sum(stage.disk for stage in self.stages) + sum(decoded.values())


def outlook(cfg: DictConfig) -> Outlook:
    """What a composed and checked experiment would be.

    StageError: a stage's source is missing; ChangedStage: the output folder holds something else.
    """
    set_up_log(None)  # what libraries remark does not belong here
    names = list(cfg.stages)
    refuse_missing_sources(cfg, names)
    target = Path(cfg.output_dir) if cfg.output_dir else Path("outputs") / f"<date>_<time>_{title(cfg)}"
    done: list[Forecast] = []
    for name in names:
        settings = configuration.stage_config(cfg, name)
        settings["hash"] = configuration.config_hash(settings)
        keys = {one.stage: one.key for one in done}
        print(f"{name}: looking …", file=sys.stderr, flush=True)
        done.append(forecast(settings, target, cfg.store, keys))
    return Outlook(title(cfg), target, tuple(done))


def told(found: Outlook) -> Iterator[str]:
    """The outlook in words."""
    yield f"{found.name}: a dry run, nothing is written or downloaded"
    for stage in found.stages:
        yield ""
        yield f"{stage.stage} {SAID[stage.outlook]}"
        yield from (line(name, text) for name, text in lines_of(stage))
    yield ""
    in_all = f"about {duration(found.seconds)} in all, and a few seconds for each stage to start"
    yield line("time", "nothing is left to do" if all(s.outlook == "skipped" for s in found.stages) else in_all)
    free = shutil.disk_usage(nearest(found.target)).free
    short = "" if found.disk < free else ": TOO LITTLE"
    yield line("disk", f"at most {gigabytes(found.disk)} are written; {gigabytes(free)} are free{short}")
    yield line("folder", f"{found.target}: results.json, and a folder or link for each stage")


SAID = {"skipped": "is skipped: it was finished with the same settings and data", "resumes": "resumes", "runs": "runs"}


def line(name: str, text: str) -> str:
    """One line of a stage."""
    return f"  {name:{NAMED}}{text}"


def lines_of(stage: Forecast) -> Iterator[tuple[str, str]]:
    """What is said of a stage."""
    cost = stage.measured
    if cost is not None:
        yield from cost_of(stage, cost)
    elif stage.outlook == "runs":
        yield "weights", f"{stage.parameters or 0:,} parameters"
        yield "judging", f"{stage.shown:,} images are shown to evaluators"
        yield "time", f"about {duration(stage.seconds)} (without what probes fit)"
    yield "folder", str(stage.folder)
    if cost is not None:
        yield "files", f"config.yaml, data.json, metrics.csv, log.txt, …; {checkpoints(cost.checkpoint)}"
    for place, size in stage.writes.items():
        yield "cache", f"{gigabytes(size)} of decoded images in {place}"
    for remark in stage.remarks:
        yield "note", remark


def cost_of(stage: Forecast, cost: Any) -> Iterator[tuple[str, str]]:
    """What training a stage costs."""
    course = cost.course
    epochs = course.total_steps / course.steps_per_epoch
    cut = "one pass a device" if course.pass_size is None else f"passes of {course.pass_size}"
    yield "steps", f"{course.total_steps:,} of {course.batch_size:,} images ({cut}), {epochs:.4g} epochs"
    yield "images", f"{course.images:,} to train on, {cost.images_seen:,} seen in all; {stage.shown:,} judged"
    yield "weights", f"{cost.parameters:,} trainable parameters"
    yield "FLOPs", f"{cost.flops:.4g}"
    left = "" if stage.steps == course.total_steps else f" for the {stage.steps:,} steps that are left"
    judging = duration(stage.shown * cost.judged_seconds)
    yield (
        "time",
        f"about {duration(stage.seconds)}{left}: {brief(cost.step_seconds)} a step, {judging} of judging "
        "(without what probes fit)",
    )
    where = "of the GPU" if cost.device == "cuda" else "of the process"
    yield "memory", f"{gigabytes(cost.memory)} {where} at the peak of the steps that were measured"


def brief(seconds: float) -> str:
    """What a step takes."""
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def checkpoints(size: int) -> str:
    """How checkpoints are kept."""
    return f"2 checkpoints of {gigabytes(size)} ({KEPT} while one is written)"


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
