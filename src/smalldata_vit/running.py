"""One stage in its own process: taken from the store, resumed or run, judged, and written down."""

import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from smalldata_vit import config as configuration
from smalldata_vit import guide_maps, known_splits, store
from smalldata_vit.about import about
from smalldata_vit.assembly import assemble, load_data
from smalldata_vit.baselines import pixels_alone
from smalldata_vit.checkpoints import newest_whole
from smalldata_vit.cluster_orders import summon
from smalldata_vit.console import set_up_log
from smalldata_vit.data.dataset import Splits
from smalldata_vit.described import describe
from smalldata_vit.energy import Meter, counters
from smalldata_vit.evaluating import judge_source
from smalldata_vit.finishing import finish, judge_at_end
from smalldata_vit.fitting import largest_forward, limit
from smalldata_vit.flops import costs
from smalldata_vit.journal import Journal
from smalldata_vit.measured import with_statistics
from smalldata_vit.output import Lock
from smalldata_vit.results import Results, read_json, write_json
from smalldata_vit.seen_views import keep_views, views_apart
from smalldata_vit.start import Source, begin, begin_guides
from smalldata_vit.watching import test_images_watched

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
    with test_images_watched(stage), Meter(counters() if stage.device.type == "cpu" else ()) as meter:
        stage.trainer.fit(learner, stage.data, ckpt_path=str(found.path) if found else None)
    journal.close()
    if learner.interrupted:
        status = learner.signals.exit_status()
        journal.note(f"stopped by a signal at step {learner.step}; saved, and the same command goes on from there")
        return {"status": "interrupted", "steps": learner.step, "exit_status": status}
    energy = {} if found or meter.joules is None else {"joules": round(meter.joules, 1)}
    return finish(config, stage, key, folder, journal) | energy


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
