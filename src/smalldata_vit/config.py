"""From what a person typed to one composed, checked config; from that to the self-contained config of each stage."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit import checks, inheritance, signatures
from smalldata_vit.schema import INHERITED, OWN, ROOT, STAGES, Root, StartFrom
from smalldata_vit.words import ConfigError, group_of, hold_at_root, parts, quoted, rewrite

__all__ = [
    "CONF",
    "ConfigError",
    "check",
    "choice",
    "compose",
    "config_hash",
    "experiment_hash",
    "options",
    "quoted",
    "rewrite",
    "stage_config",
]

CONF = Path(__file__).resolve().parents[2] / "conf"
ConfigStore.instance().store(name="experiment_schema", node=Root)

NOT_HASHED = frozenset(
    {"trainer", "logger", "tags", "name", "experiment_name", "checkpoint_every_seconds", "chosen", "pixel_baseline", "hash"}
)
"""Keys of a stage that change nothing about its weights and numbers."""


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of the experiment that these words ask for, read-only; ConfigError if they cannot be right."""
    words = rewrite(overrides)
    parsed = parse(words)
    chosen = [w for w, o in zip(words, parsed, strict=True) if group_of(o.get_key_element().lstrip("+~")) is not None]
    own = {w for w in chosen if group_of(parts(w)[1]) in OWN and "@" not in parts(w)[1]}
    choices = composed([w for w in chosen if w not in own])[1]
    if choices.get("plan") is None:
        plan = plan_for(choices["method"], choices["dataset"])
        chosen.append(f"plan={plan}")
    else:
        plan = choices["plan"]
    words = hold_at_root(words, own_stage(plan))
    chosen = hold_at_root(chosen, own_stage(plan))
    cfg, choices = composed(chosen)
    values = [w for w in words if group_of(parts(w)[1]) is None]
    for override in parse(values):
        put(cfg, override)
    typed = {parts(w)[1] for w in values}
    inherit(cfg, choices, typed)
    with open_dict(cfg):
        cfg.chosen = {key: str(value) for key, value in choices.items() if value is not None}
    OmegaConf.set_readonly(cfg, True)
    return cfg
