"""From the resolved config of one stage to the objects that run it: data, method, judge, learner, trainer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate

from smalldata_vit import randomness
from smalldata_vit.checkpoints import Checkpoints, checkpoint_name
from smalldata_vit.contracts import DataFacts, Evaluator, Method
from smalldata_vit.data.course import Course, steps_per_epoch
from smalldata_vit.data.dataset import Splits
from smalldata_vit.data.images import Images
from smalldata_vit.data.module import ImageData
from smalldata_vit.hardware import Config, build_trainer, device_of, devices_of, resident, speed_up
from smalldata_vit.journal import Journal
from smalldata_vit.judging import Judge
from smalldata_vit.learner import Learner, handed_on


@dataclass
class Assembly:
    """One stage, ready to run."""

    splits: Splits
    method: Method
    judge: Judge
    learner: Learner
    data: ImageData
    trainer: lightning.Trainer
    device: torch.device
    facts: DataFacts
    evaluators: dict[str, Evaluator]


def load_data(config: Config) -> Splits:
    """The splits of the stage's dataset."""
    dataset = instantiate(config["dataset"], _convert_="all")
    return dataset.load(config["seed"])


def facts_of(config: Config, splits: Splits) -> DataFacts:
    """What the method has to know of the data that this stage trains on."""
    return DataFacts(
        num_images=len(trained_on(config, splits)),
        num_classes=splits.num_classes,
        image_size=config["image_size"],
        mean=tuple(splits.mean),
        std=tuple(splits.std),
    )


def trained_on(config: Config, splits: Splits) -> Images:
    """Every training image where labels are hidden, else those whose labels may be read."""
    if config["reads_labels"]:
        return splits.train.subset(splits.labelled)
    return splits.train


def build_method(config: Config, facts: DataFacts) -> Method:
    """The method with its start; the encoder's start depends on the seed alone, not on the method around it."""
    torch.manual_seed(randomness.key(config["seed"], "start"))
    backbone = instantiate(config["arch"], _convert_="all")
    factory = instantiate(config["method"], _convert_="all")
    if not config["guidance"]:
        return factory(backbone=backbone, facts=facts)
    if not config["reads_labels"]:
        raise ValueError(f"guidance is a part of training on labels: {config['stage']}.guidance=none")
    return factory(backbone=backbone, facts=facts, guidance=instantiate(config["guidance"], _convert_="all"))


def course_of(config: Config, images: int, devices: int, method: Method, journal: Journal) -> Course:
    """The stage's length and batches; a batch larger than the data becomes the data."""
    batch_size, pass_size = config["batch_size"], config["pass_size"]
    if batch_size > images:
        journal.note(f"batch_size={batch_size} is more than the {images} training images: a batch is all of them")
        batch_size = images
    if pass_size is not None and pass_size > batch_size:
        pass_size = batch_size
    if devices > 1 and pass_size is None and method.couples_images:
        raise ValueError(
            f"{type(method).__name__} lets the images of a forward influence each other, so the cut into passes "
            f"belongs to the recipe: with {devices} devices set pass_size (for example {batch_size // devices})"
        )
    if devices > 1 and pass_size is not None and -(-batch_size // pass_size) < devices:
        raise ValueError(
            f"batch_size={batch_size} and pass_size={pass_size} make {-(-batch_size // pass_size)} passes for "
            f"{devices} devices: use at most {batch_size // devices} for pass_size, or fewer devices"
        )
    most = None if config["trainer"]["max_batch"] == "auto" else config["trainer"]["max_batch"]
    if most is not None and (pass_size or batch_size) > most and (pass_size is not None or method.couples_images):
        raise ValueError(
            f"trainer.max_batch={most} would cut a pass of {pass_size or batch_size} images whose cut belongs to the "
            f"recipe: set pass_size={most} if another recipe is meant, or a larger max_batch"
        )
    each = steps_per_epoch(images, batch_size, config["drop_last"], config["passes_per_epoch"])
    steps = config["steps"] if config["steps"] is not None else round(config["epochs"] * each)
    if steps < 1:
        raise ValueError(f"epochs={config['epochs']} of {each} steps is less than one step: use steps= or more epochs")
    return Course(images, batch_size, pass_size, steps, config["drop_last"], config["passes_per_epoch"], most)


def build_judge(config: Config, splits: Splits, device: torch.device) -> tuple[Judge, dict[str, Evaluator]]:
    """The stage's evaluators and what they are shown."""
    evaluators = {name: instantiate(node, _convert_="all") for name, node in config["evaluator"].items()}
    view = instantiate(config["evaluation_view"], _convert_="all")(
        image_size=config["image_size"], dataset_mean=splits.mean, dataset_std=splits.std
    )
    named = {"val": splits.val, "test": splits.test}
    shown = {name: images for name, images in named.items() if images is not None}
    return Judge(shown, splits.train, splits.place, view, evaluators), evaluators


def assemble(
    config: Config, splits: Splits, folder: Path, journal: Journal, loggers: list[Any], proof: str
) -> Assembly:
    """Everything that a stage needs, or a sentence that says what does not fit."""
    device = device_of(config["trainer"])
    devices = devices_of(config["trainer"], device)
    facts = facts_of(config, splits)
    method = build_method(config, facts)
    images = resident(trained_on(config, splits), device)
    course = course_of(config, facts.num_images, devices * config["trainer"]["nodes"], method, journal)
    judge, evaluators = build_judge(config, splits, device)
    views = instantiate(config["views"], _convert_="all")(
        image_size=config["image_size"], dataset_mean=splits.mean, dataset_std=splits.std
    )
    trainer = build_trainer(config, devices, device, loggers)
    each = config["evaluate_every_epochs"]
    learner = instantiate(config["learner"], _convert_="all")(
        method=method,
        images=images,
        views=views,
        optimization=instantiate(config["optimization"], _convert_="all"),
        course=course,
        judge=judge,
        journal=journal,
        seed=config["seed"],
        proof=proof,
        save=lambda learner: trainer.save_checkpoint(
            folder / "checkpoints" / checkpoint_name(learner.step), weights_only=False
        ),
        save_every_seconds=config["checkpoint_every_seconds"],
        judge_every=None if each is None else max(1, round(each * course.steps_per_epoch)),
        best_by=config["best_by"] if config["select"] == "best" else None,
        save_best=lambda learner: save_best(learner, folder, config["hash"]),
        is_compiled=bool(config["trainer"]["compile"]),
        reads_labels=config["reads_labels"],
    )
    speed_up(method, views, config["trainer"], device)
    data = ImageData(views, images, course, config["seed"], device, steps_at_once=config["trainer"]["steps_at_once"])
    return Assembly(splits, method, judge, learner, data, trainer, device, facts, evaluators)


def save_best(learner: Learner, folder: Path, config_hash: str) -> None:
    """The method's weights as the best so far, by the process that writes."""
    if learner.trainer.is_global_zero:
        position = {"step": learner.step, "total_steps": learner.course.total_steps}
        checkpoint = {"position": position, "method": dict(learner.method.state_dict()), **handed_on(learner.method)}
        target = folder / "checkpoints" / checkpoint_name(learner.step, "best")
        Checkpoints(config_hash, keep=1).save_checkpoint(checkpoint, target)
