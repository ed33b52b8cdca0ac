"""A stage that trains nothing: what another stage or a file left is judged, by any evaluators, and written down."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smalldata_vit.assembly import build_judge, build_method, facts_of, trained_on
from smalldata_vit.contracts import Classifier, DataFacts, Method
from smalldata_vit.data.dataset import Splits
from smalldata_vit.hardware import device_of
from smalldata_vit.head_start import keep_head
from smalldata_vit.journal import Journal
from smalldata_vit.predictions import Predictions, normalisation_of
from smalldata_vit.results import write_json
from smalldata_vit.signals import Signals
from smalldata_vit.start import Source, hand_over, is_from_scratch
from smalldata_vit.store import outcome_of


def judge_source(
    config: Mapping[str, Any], splits: Splits, source: Source, folder: Path, journal: Journal, loggers: list[Any]
) -> dict[str, Any]:
    """The outcome of judging a source on validation, then on test, once; on one device whatever `trainer.devices` is.

    A signal ends it between two splits; the same command then begins anew. ValueError: an evaluator that cannot judge
    such a method; HandOffError: weights that do not fit it.
    """
    device = device_of(config["trainer"])
    facts = facts_of(config, splits)
    method = build_method(config, facts).to(device)
    judge, evaluators = build_judge(config, splits, device)
    judge.refuse_misfits(method)
    said = Predictions(*normalisation_of(config["evaluation_view"], splits))
    judge = said.beside(judge, method)
    begun = taken_over(config, method, facts, source, journal)
    write_json(folder / "begun.json", begun)
    journal.resume(-1)  # another judgement in this folder is replaced
    started, numbers = time.monotonic(), dict[str, float]()
    with Signals() as signals:
        for split in [split for split in ("val", "test") if split in judge.splits]:
            numbers |= judge(method, split)
            said.keep(split, judge)
            if signals.received is not None:
                journal.note(f"stopped by a signal after judging {split}; the same command judges anew")
                return {"status": "interrupted", "steps": 0, "exit_status": signals.exit_status()}
    said.write(folder)
    seconds = round(time.monotonic() - started, 2)
    journal.write(0, 0.0, seconds, numbers)
    for logger in loggers:
        logger.log_metrics(dict(numbers), 0)
        logger.finalize("success")
    return (
        outcome(config, splits, source, journal)
        | begun
        | {
            "metrics": numbers,
            "evaluators": {name: evaluator.recorded() for name, evaluator in evaluators.items()},
            "seconds": seconds,
            "device": device.type,
            "folder": folder.name,
        }
    )


def taken_over(
    config: Mapping[str, Any], method: Method, facts: DataFacts, source: Source, journal: Journal
) -> dict[str, Any]:
    """Give a method the source's weights, its head too where that is wanted; what is to be recorded of it."""
    weights = source.read()
    begun: dict[str, Any] = {**hand_over(method, facts, source, weights, journal)}
    if isinstance(method, Classifier) and config["start_from"]["head"] == "keep":
        keep_head(method, weights)
        begun["start_from"]["head"] = "keep"
    elif isinstance(method, Classifier):
        journal.warn("the head was not taken over: numbers that come from logits are those of an untrained head")
    return begun | {"from_scratch": is_from_scratch(config, source)}


def outcome(config: Mapping[str, Any], splits: Splits, source: Source, journal: Journal) -> dict[str, Any]:
    """What is recorded of every judgement, whatever came out."""
    return {
        "status": "finished",
        "selected": selected(source),
        "labels_per_class": config["dataset"]["labels_per_class"] if config["reads_labels"] else 0,
        "split_hash": splits.split_hash,
        "config_hash": config["hash"],
        "seed": config["seed"],
        "devices": 1,
        "precision": "32-true",
        "steps": 0,
        "images_seen": 0,
        "flops": 0.0,
        "train_images": len(trained_on(config, splits)),
        "warnings": journal.warnings,
    }


def selected(source: Source) -> dict[str, Any]:
    """Which weights were judged: those that the source's stage selected, or all that a file holds."""
    told = {} if source.file is None else outcome_of(source.file.parent.parent).get("selected", {})
    return {"rule": told.get("rule", "last"), "step": told.get("step")}
