"""Which options an experiment's subtrees began with, and who chose them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.defaults_list import DefaultsList

from smalldata_vit import composition
from smalldata_vit.explain.trace import Place
from smalldata_vit.hydra_files import read_yaml


@dataclass(frozen=True)
class Chosen:
    """The option of a group, and who chose it."""

    option: str
    by: str


def choices(files: DefaultsList) -> dict[Place, Chosen]:
    """By the place of a subtree the options that were merged there, and who chose them."""
    chosen: dict[Place, Chosen] = {}
    for default in files.defaults:
        group, _, option = str(default.config_path).partition("/")
        place = tuple(filter(None, str(default.package).split(".")))
        if group == "hydra" or not option or not place:
            continue
        key = group if place == (group,) else f"{group}@{'.'.join(place)}"
        told, by = files.overrides.override_metadata.get(key), f"conf/{default.parent}.yaml"
        if told is not None:
            by = "command line" if told.external_override else f"conf/{told.containing_config_path}.yaml"
        elif (group,) in chosen and referred(str(default.parent), key) == f"${{{group}}}":
            by = f"as at the root: {chosen[group,].by}"
        options = [chosen[place].option] if place in chosen else []
        chosen[place] = Chosen(", ".join([*options, option]), by)
    return chosen


@lru_cache(maxsize=64)
def _listed(file: Path) -> Mapping[str, Any]:
    """By key the options in the defaults list of a file."""
    entries = read_yaml(file).get("defaults", [])
    return {str(key): value for entry in entries if isinstance(entry, Mapping) for key, value in entry.items()}


def referred(parent: str, key: str) -> Any:
    """What a file's defaults list has for a group."""
    return _listed(composition.CONF / f"{parent}.yaml").get(key)
