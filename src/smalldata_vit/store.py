"""What a stage is: the key under which a finished one is found again, and what changed when it is not the same."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from smalldata_vit.results import read_json

FOLDER = "SMALLDATA_VIT_FOLDER"
"""For the other ranks: the stage folder that rank 0 chose."""
LEADER = "SMALLDATA_VIT_LEADER"
"""For the other ranks: rank 0's process."""


class ChangedStage(ValueError):
    """The output folder holds this stage made with other settings or data."""


def stage_key(config_hash: str, split_hash: str, source_key: str) -> str:
    """Hash of everything that decides a stage's result: settings, data, and where its weights come from."""
    return hashlib.sha256("\n".join((config_hash, split_hash, source_key)).encode()).hexdigest()


def guided_key(source_key: str, guide_key: str | None) -> str:
    """What decides a stage's start together: where its weights come from, and those of its guide, if it has one."""
    return source_key if guide_key is None else f"{source_key}/guide:{guide_key}"


def asked_of(start_from: Mapping[str, Any]) -> str:
    """What of `start_from` decides, beside the source itself, with which weights a stage begins."""
    asked = f"{start_from['weights']}/{start_from['head']}/{start_from['positions']}"
    more = {key: start_from.get(key) for key in ("format", "new", "left_over")}
    more = {key: value for key, value in more.items() if value and value != "auto"}
    return f"{asked}/{json.dumps(more, sort_keys=True)}" if more else asked


def timm_key(name: str) -> str:
    """What stands for weights of timm's: their name, and the version of timm that decides what a name means."""
    return f"timm-{version('timm')}:{name}"


def refuse_change(config: Mapping[str, Any], key: str, link: Path) -> None:
    """ChangedStage if `link` leads to a stage of another key: a changed config never silently continues an old run."""
    written = link / "config.yaml"
    if not written.exists() or read_json(link / "key.json") == key:
        return
    old = OmegaConf.to_container(OmegaConf.load(written))
    lines = differences(old, dict(config))
    changed = "; ".join(lines[:10]) or "the images, or the stage that it starts from"
    raise ChangedStage(
        f"{link} was made with other settings: {changed}. Give another output_dir, or the old settings to continue"
    )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`path: old -> new` for every value that is not the same and matters to the result."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for name in sorted({*old, *new} - {"hash", "trainer", "logger", "checkpoint_every_seconds", "tags", "name"}):
            lines += differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        return lines
    return [] if old == new else [f"{path}: {old} -> {new}"]


def outcome_of(folder: Path) -> Mapping[str, Any]:
    """What a stage left in its folder, empty if it left nothing."""
    file = folder / "stage.json"
    return read_json(file) if file.exists() else {}


def stage_folder(target: Path, name: str, store: str | None, key: str) -> Path:
    """Where a stage is made: in the store, under its key, or without a store in the output folder itself."""
    folder = place_of(target, name, store, key)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def place_of(target: Path, name: str, store: str | None, key: str) -> Path:
    """The same, whether it is there or not."""
    return target / name if store is None else Path(store).resolve() / f"{name}-{key[:16]}"


def say_skipped(name: str, folder: Path) -> None:
    """One line for a stage that need not run."""
    print(f"{name}: finished before with the same settings and data, skipped ({folder})", flush=True)


def link(folder: Path, at: Path) -> None:
    """Let `at` lead to a stage folder in the store, by a relative link, so that both may move together."""
    if at.resolve() == folder.resolve():
        return
    if at.is_symlink():
        at.unlink()
    elif at.exists():
        raise ChangedStage(f"{at} is a folder of its own and {folder} is the stage's place: give another output_dir")
    at.symlink_to(os.path.relpath(folder, at.parent.resolve()))


def is_other_rank() -> bool:
    """Whether this process was started as a further rank of a stage that rank 0 leads."""
    return LEADER in os.environ and int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) > 0
