"""One stage in its own process: taken from the store, resumed or run, judged, and written down."""

import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from smalldata_vit import config as configuration
from smalldata_vit import guide_maps, guided_time, known_splits, store
from smalldata_vit.about import about
from smalldata_vit.assembly import Assembly, assemble, load_data
from smalldata_vit.baselines import pixels_alone
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.cluster_orders import summon
from smalldata_vit.console import set_up_log
from smalldata_vit.contracts import Views
from smalldata_vit.data.dataset import Splits
from smalldata_vit.evaluating import judge_source
from smalldata_vit.fitting import free_memory, images_that_fit
from smalldata_vit.flops import costs, spent
from smalldata_vit.journal import Journal
from smalldata_vit.learner import Learner
from smalldata_vit.measured import with_statistics
from smalldata_vit.metrics import read_metrics
from smalldata_vit.output import Lock
from smalldata_vit.predictions import Predictions, normalisation_of
from smalldata_vit.results import Results, read_json, write_json
from smalldata_vit.seen_views import eager, keep_views
from smalldata_vit.start import Source, begin, begin_guides
from smalldata_vit.watching import judge_last, test_images_watched

RESUME = "SMALLDATA_VIT_RESUME"
"""For the other ranks: the checkpoint that rank 0 chose to resume from (empty: none)."""
MAX_BATCH = "SMALLDATA_VIT_MAX_BATCH"
"""For the other ranks: how many images rank 0 found to fit into one forward (empty: not asked)."""

log = logging.getLogger("smalldata_vit")


def run_stage(cfg: DictConfig, name: str, target: Path, typed: Sequence[str]) -> int:
    """Run one stage into `target/<name>`; returns the exit status (143, 130: stopped by a signal, can be resumed)."""
    config = configuration.stage_config(cfg, name)
    config["hash"] = configuration.config_hash(config)
    if store.is_other_rank():
        splits = load_data(config)
        return follow(with_statistics(config, splits), splits, Path(os.environ[store.FOLDER]))
    results = Results(target / "results.json")
    try:
        splits = known_splits.remembering(config, load_data)
        config = with_statistics(config, splits)
        outcome = settle(config, splits, Source.of_stage(config, target), target, cfg.store, typed)
        results.update({"stages": {name: outcome}})
        if (
            config["pixel_baseline"]
            and outcome["status"] == "finished"
            and not results.load()["baselines"].get("pixels")
        ):
            results.update({"baselines": {"pixels": pixels_alone(splits)}})
    except BaseException as error:
        log.debug("%s", traceback.format_exc())
        sentence = f"{type(error).__name__}: {error}"
        failed = {"status": "failed", "error": sentence}
        results.update({"status": "failed", "error": sentence, "stages": {name: failed}})
        raise
    return int(outcome.get("exit_status", 0))


def settle(
    config: dict[str, Any], splits: Splits, source: Source, target: Path, shared: str | None, typed: Sequence[str]
) -> Mapping[str, Any]:
    """The outcome of a stage that was finished before, or of running it now, alone in its folder."""
    name = config["stage"]
    key = store.stage_key(config["hash"], splits.split_hash, source.key)
    if config["learner"] is not None:  # a judgement can be repeated by other evaluators: no training is lost
        store.refuse_change(config, key, target / name)
    folder = store.stage_folder(target, name, shared, key)
    with Lock(folder.parent / f".{folder.name}.lock", what=f"the stage {name} in {folder}", waits=True) as lock:
        store.link(folder, target / name)
        outcome = store.outcome_of(folder)
        if outcome.get("status") == "finished" and outcome.get("key") == key:
            store.say_skipped(name, folder)
            return outcome
        if lock.waited and outcome.get("status") == "failed" and outcome.get("key") == key:
            raise RuntimeError(f"the stage {name} failed where it was made, in {folder}: {outcome['error']}")
        record(folder, {"status": "running", "key": key})  # so that a maker that is killed leaves no earlier failure
        try:
            return record(folder, lead(config, splits, source, key, folder, typed))
        except BaseException as error:
            record(folder, {"status": "failed", "key": key, "error": f"{type(error).__name__}: {error}"})
            raise


def record(folder: Path, outcome: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write a stage's outcome beside its checkpoints and return it."""
    write_json(folder / "stage.json", outcome)
    return outcome


def lead(
    config: dict[str, Any], splits: Splits, source: Source, key: str, folder: Path, typed: Sequence[str]
) -> Mapping[str, Any]:
    """Rank 0: prepare the folder, decide where to start, train, judge; returns the outcome that was recorded."""
    set_up_log(folder / "log.txt")
    journal = Journal(folder, config["stage"])
    write_json(folder / "key.json", key)
    write_json(folder / "about.json", about(typed))
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    write_json(folder / "data.json", splits.record)
    loggers = build_loggers(config, folder)
    if config["learner"] is None:
        judged = judge_source(config, splits, source, folder, journal, loggers)
        return judged | {"key": key, "validation": splits.validation}
    stage = assemble(config, splits, folder, journal, loggers, proof=proof(key, config, splits))
    learner = stage.learner
    journal.note(describe(config, stage))
    found = newest_whole(folder / "checkpoints")
    os.environ[RESUME] = str(found.path) if found else ""
    os.environ |= {store.FOLDER: str(folder), store.LEADER: str(os.getpid())}
    if found:
        journal.resume(found.step)
        journal.note(f"resumes at step {found.step} of {learner.course.total_steps} from {found.path}")
        if guide_maps.missing(stage, folder):
            begin_guides(stage, source.guide, journal)
        guide_maps.provide(stage, folder, journal)
    else:
        begun = begin(config, stage, source, journal)
        guide_maps.provide(stage, folder, journal)
        begun |= costs(learner, stage.data.step(0))
        begun["max_batch"] = largest_forward(config, stage, journal)
        write_json(folder / "begun.json", begun)
        keep_views(config, stage, views_apart(config, splits), folder)
    most = read_json(folder / "begun.json").get("max_batch")
    os.environ[MAX_BATCH] = str(most or "")
    limit(stage, most)
    summon(config["stage"])
    with test_images_watched(stage):
        stage.trainer.fit(learner, stage.data, ckpt_path=str(found.path) if found else None)
    journal.close()
    if learner.interrupted:
        status = learner.signals.exit_status()
        journal.note(f"stopped by a signal at step {learner.step}; saved, and the same command goes on from there")
        return {"status": "interrupted", "steps": learner.step, "exit_status": status}
    return finish(config, stage, key, folder, journal)


def views_apart(config: Mapping[str, Any], splits: Splits) -> Views:
    """The stage's views once more, uncompiled, for pictures of what the network sees."""
    factory = instantiate(eager(config["views"]), _convert_="all")
    return factory(image_size=config["image_size"], dataset_mean=splits.mean, dataset_std=splits.std)


def largest_forward(config: Mapping[str, Any], stage: Assembly, journal: Journal) -> int | None:
    """With trainer.max_batch=auto the most images that go through one forward, else None; said in the log."""
    if config["trainer"]["max_batch"] != "auto":
        return None
    course = stage.learner.course
    if course.pass_size is not None or stage.method.couples_images:
        journal.note("trainer.max_batch=auto changes nothing: the cut into passes belongs to this recipe")
        return None
    precision = stage.trainer.precision_plugin.forward_context()
    fits = images_that_fit(stage.learner, stage.data, free_memory(stage.device), precision)
    journal.note(f"trainer.max_batch=auto: {fits} images in one forward fit into memory")
    return fits


def limit(stage: Assembly, most: int | None) -> None:
    """Cut the passes of a stage to at most so many images, if any number was found."""
    if most:
        stage.learner.course = stage.data.course = replace(stage.learner.course, max_batch=most)


def follow(config: dict[str, Any], splits: Splits, folder: Path) -> int:
    """Any other rank: train along and help to judge; writes nothing."""
    set_up_log(None)
    key = read_json(folder / "key.json")
    stage = assemble(config, splits, folder, Journal(None, config["stage"]), [], proof=proof(key, config, splits))
    limit(stage, int(os.environ[MAX_BATCH] or 0))
    guide_maps.hand_over(stage, folder)
    with test_images_watched(stage):
        stage.trainer.fit(stage.learner, stage.data, ckpt_path=os.environ[RESUME] or None)
    if stage.learner.interrupted:
        return stage.learner.signals.exit_status()
    judge_at_end(config, stage, folder)
    return 0


def proof(key: str, config: Mapping[str, Any], splits: Splits) -> str:
    """What this rank itself was told and sees, beside the stage that rank 0 has opened: all ranks must have the same.

    The key alone is read from rank 0's folder, and says nothing about this rank's settings and images.
    """
    return "\n".join((key, config["hash"], splits.split_hash))


def build_loggers(config: Mapping[str, Any], folder: Path) -> list[Any]:
    """Lightning loggers beside our own file; each gets the stage's folder, name, group and config."""
    made = []
    for node in config["logger"].values():
        factory = instantiate(node, _convert_="all")
        made.append(factory(folder=folder, stage=config["stage"], group=config["experiment_name"], config=dict(config)))
    return made


def describe(config: Mapping[str, Any], stage: Assembly) -> str:
    """One line that says what runs."""
    course, optimization = stage.learner.course, stage.learner.optimization
    weights = sum(p.numel() for p in stage.method.parameters() if p.requires_grad)
    cut = "one pass a device" if course.pass_size is None else f"passes of {course.pass_size}"
    return (
        f"{type(stage.method).__name__} on {course.images} images, {course.total_steps} steps of {course.batch_size} "
        f"({cut}), {weights:,} trainable parameters, peak learning rate {optimization.peak(course.batch_size):g}, "
        f"{stage.trainer.accelerator.name()} x {stage.trainer.world_size}, precision {stage.trainer.precision}; "
        f"{path_of(config, stage)}"
    )


def path_of(config: Mapping[str, Any], stage: Assembly) -> str:
    """Which of the automatic choices were taken, each with the key that changes it where it has one."""
    settings, cuda = config["trainer"], stage.device.type == "cuda"
    written_out = not cuda and str(stage.trainer.precision).startswith("bf16")
    optimizer: Any = stage.learner.optimization.build(stage.method, stage.learner.course.batch_size)
    chosen = [
        f"attention {'explicit' if written_out else 'SDPA'} (where arch.attention=auto)",
        f"{type(optimizer).__name__} {'fused' if optimizer.defaults['fused'] else 'unfused'} "
        f"(optimization.optimizer.fused)",
        f"views {stage.learner.views.path(stage.device)}",
        "compiled with inductor" if settings["compile"] else "network eager (trainer.compile)",
        *(["float32 products in TF32 (trainer.tf32)"] if cuda and settings["tf32"] else []),
        *(["activations recomputed (trainer.checkpoint_activations)"] if settings["checkpoint_activations"] else []),
        f"images on the {'GPU' if stage.learner.images.device.type == 'cuda' else 'CPU'}",
        *(["deterministic (trainer.deterministic)"] if settings["deterministic"] else []),
    ]
    return ", ".join(chosen)


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
