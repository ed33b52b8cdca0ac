"""The end of a stage: its weights judged on validation and test, and what is written down of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from smalldata_vit import guide_maps, guided_time
from smalldata_vit.assembly import Assembly
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.flops import spent
from smalldata_vit.journal import Journal
from smalldata_vit.learner import Learner
from smalldata_vit.metrics import read_metrics
from smalldata_vit.predictions import Predictions, normalisation_of
from smalldata_vit.results import read_json
from smalldata_vit.watching import judge_last


def judge_at_end(config: Mapping[str, Any], stage: Assembly, folder: Path) -> dict[str, float]:
    """Judge the selected weights on validation, then on test, once; every rank takes part.

    What a classifier said of each image is kept in predictions.npz.
    """
    learner = stage.learner
    judge_last(config, stage)
    if config["select"] == "best" and learner.best[1] >= 0:
        best = newest_whole(folder / "checkpoints", "best")
        if best is None:
            raise FileNotFoundError(f"select=best, but {folder / 'checkpoints'} holds no whole best_*.ckpt")
        state = torch.load(best.path, map_location="cpu", weights_only=True)
        stage.method.load_state_dict(state["method"])
    learner.to(stage.device)
    numbers: dict[str, float] = {}
    said = Predictions(*normalisation_of(config["evaluation_view"], stage.splits))
    judge = said.beside(stage.judge, stage.method)
    for split in [split for split in ("val", "test") if split in judge.splits]:
        numbers |= judge(stage.method, split)
        said.keep(split, judge)
    said.write(folder)
    return numbers


def finish(config: Mapping[str, Any], stage: Assembly, key: str, folder: Path, journal: Journal) -> dict[str, Any]:
    """The outcome of a stage that reached its last step."""
    learner, course = stage.learner, stage.learner.course
    numbers = judge_at_end(config, stage, folder)
    learner.log_numbers(numbers)
    begun = read_json(folder / "begun.json")
    seen, guided = images_seen(learner), time_of_guidance(learner, folder, journal)
    flops = spent(begun, seen, learner.step, guided.get("steps_off", 0)) + guide_maps.flops_spent(folder)
    guide_maps.remove(folder)
    return {
        "status": "finished",
        "metrics": numbers,
        **{name: begun[name] for name in ("untrained", "hand_off", "start_from", "guide") if begun.get(name)},
        "from_scratch": begun.get("from_scratch"),
        "selected": selected(learner),
        "validation": stage.splits.validation,
        "evaluators": {name: evaluator.recorded() for name, evaluator in stage.evaluators.items()},
        "labels_per_class": config["dataset"]["labels_per_class"] if config["reads_labels"] else 0,
        "split_hash": stage.splits.split_hash,
        "config_hash": config["hash"],
        "key": key,
        "seed": config["seed"],
        "seconds": round(learner.seconds, 2),
        "device": stage.trainer.accelerator.name(),
        "devices": stage.trainer.world_size,
        "precision": str(stage.trainer.precision),
        "steps": learner.step,
        "images_seen": seen,
        "flops": flops,
        **({"guidance": guided} if guided else {}),
        "train_images": course.images,
        "warnings": journal.warnings,
        "folder": folder.name,
    }


def selected(learner: Learner) -> dict[str, Any]:
    """Which weights are tested: the best on what judged during training, else the last."""
    best = learner.best[1]
    return {"rule": "best", "step": best} if best >= 0 else {"rule": "last", "step": learner.step}


def time_of_guidance(learner: Learner, folder: Path, journal: Journal) -> Mapping[str, Any]:
    """What guidance cost in a stage that it guided, said in the log and written into the metrics; else nothing."""
    found = guided_time.guided_time(read_metrics(folder / "metrics.csv"), learner.course.steps_per_epoch)
    if found is None:
        return {}
    journal.note(guided_time.in_words(found))
    learner.log_numbers(guided_time.for_metrics(found))
    return found


def images_seen(learner: Learner) -> int:
    """Images of all steps so far, ragged last batches counted as they are."""
    course = learner.course
    if course.drop_last or course.images * course.passes_per_epoch % course.batch_size == 0:
        return learner.step * course.batch_size
    whole, rest = divmod(learner.step, course.steps_per_epoch)
    return whole * course.images * course.passes_per_epoch + rest * course.batch_size
