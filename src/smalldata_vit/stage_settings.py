"""What a stage, and a whole experiment, is: plain values with nothing left to resolve, and their hash."""

import hashlib
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit.hydra_files import in_words
from smalldata_vit.schema import GUIDE, StartFrom
from smalldata_vit.stage_hash import config_hash
from smalldata_vit.words import ConfigError


def choice(cfg: DictConfig, group: str) -> str:
    """The option of a group that was chosen at the root."""
    return cfg.chosen[group]


def stage_config(cfg: DictConfig, stage: str) -> dict[str, Any]:
    """One stage as plain values with everything that it needs, nothing left to resolve; a new dict every time."""
    try:
        own, *shared = (
            OmegaConf.to_container(cfg[key], resolve=True, throw_on_missing=True)
            for key in (stage, "trainer", "logger")
        )
    except OmegaConfBaseException as error:
        raise ConfigError(in_words(error)) from error
    assert isinstance(own, dict)
    settings = {str(key): value for key, value in own.items()} | dict(zip(("trainer", "logger"), shared, strict=True))
    if cfg.debug and settings["learner"] is not None:
        settings |= {"steps": 2, "evaluate_every_epochs": None}
    if settings["start_from"] is not None and settings["start_from"]["timm"] is True:
        settings["start_from"]["timm"] = settings["arch"].get("name", True)
    if settings["guidance"]:
        given = cfg.guide.start_from
        settings["guide_from"] = asdict(StartFrom(stage=GUIDE)) if given is None else OmegaConf.to_container(given)
    return settings | {
        "stage": stage,
        "seed": cfg.seed,
        "name": cfg.name,
        "tags": list(cfg.tags),
        "experiment_name": cfg.name or f"{choice(cfg, 'method')}_{choice(cfg, 'dataset')}",
    }


def experiment_hash(cfg: DictConfig) -> str:
    """SHA-256 of all scheduled stages, in order."""
    stages = [config_hash(stage_config(cfg, stage)) for stage in cfg.stages]
    return hashlib.sha256("\n".join([*cfg.stages, *stages]).encode()).hexdigest()
