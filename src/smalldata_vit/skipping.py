"""Whether a stage was finished before, found out without its data and without torch: a second in place of many."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smalldata_vit import known_splits, store
from smalldata_vit.manifests import CheckpointError, numbered, verify
from smalldata_vit.output import Lock
from smalldata_vit.results import read_json


def finished_before(
    config: Mapping[str, Any], config_hash: str, target: Path, shared: str | None
) -> Mapping[str, Any] | None:
    """What a stage left that was finished with the same settings, source and data, linked into `target`.

    None in every other case, damaged files included: then the stage's own process looks, and has the last word.
    `shared` is the folder of the store.
    """
    at = target / config["stage"]
    try:
        split_hash, source = known_splits.recalled(config), sources_key(config, target)
        if split_hash is None or source is None:
            return None
        key = store.stage_key(config_hash, split_hash, source)
        return _taken(store.place_of(target, config["stage"], shared, key), at, key)
    except (OSError, ValueError, KeyError, CheckpointError):
        return None


def _taken(folder: Path, at: Path, key: str) -> Mapping[str, Any] | None:
    """The outcome in a stage's folder if it is finished and nothing else stands where the link to it belongs."""
    if (at / "config.yaml").exists() and read_json(at / "key.json") != key:
        return None
    if store.outcome_of(folder).get("status") != "finished":
        return None
    with Lock(folder.parent / f".{folder.name}.lock", what=f"the stage in {folder}", waits=True):
        outcome = store.outcome_of(folder)
        if outcome.get("status") != "finished" or outcome.get("key") != key:
            return None
        store.link(folder, at)
        return outcome


def sources_key(config: Mapping[str, Any], target: Path) -> str | None:
    """The part of a stage's key that says where its weights and its guide's come from, as `Source.of_stage` has it."""
    source = source_key(config["start_from"], target)
    guide = None if config.get("guide_from") is None else source_key(config["guide_from"], target)
    if source is None or (guide is None and config.get("guide_from") is not None):
        return None
    return store.guided_key(source, guide)


def source_key(start_from: Mapping[str, Any] | None, target: Path) -> str | None:
    """The same of one source; None where there is none that is whole."""
    if start_from is None:
        return "scratch"
    asked = store.asked_of(start_from)
    if start_from.get("timm") is not None:
        return f"{store.timm_key(start_from['timm'])}/{asked}"
    if start_from["stage"] is None:
        with Path(start_from["file"]).open("rb") as file:
            return f"{hashlib.file_digest(file, 'sha256').hexdigest()}/{asked}"
    folder = target / start_from["stage"]
    outcome = store.outcome_of(folder)
    if outcome.get("status") != "finished":
        return None
    saved = numbered(folder / "checkpoints", "best" if outcome["selected"]["rule"] == "best" else "step")
    if not saved:
        return None
    verify(saved[-1][1])
    return f"{outcome['key']}/{asked}"
