"""Hydra's part of composition: the options that there are, those that were chosen, and the choice of a plan."""

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from smalldata_vit import checks
from smalldata_vit.hydra_files import ERRORS, defaults_of, hydra_at, in_words, read_yaml
from smalldata_vit.inheritance import below, leaves, orphans
from smalldata_vit.overrides import parse
from smalldata_vit.schema import OWN, STAGES, Root
from smalldata_vit.words import ConfigError, parts

CONF = Path(__file__).resolve().parents[2] / "conf"
ConfigStore.instance().store(name="experiment_schema", node=Root)

OVERLAYS = ("plan", "experiment", "flavour")
"""Groups whose files set values all over the config."""
LISTS = ("evaluator", "logger")
"""Groups of which several options can be chosen at once."""


def options(group: str) -> list[str]:
    """The options of a group, by name: an experiment's with its folder (gani/vit_cifar10), a flavour's without."""
    if group == "flavour":
        return sorted({file.stem for file in (CONF / group).glob("*/*.yaml")})
    files = (CONF / group).rglob("*.yaml") if group == "experiment" else (CONF / group).glob("*.yaml")
    return sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in files)


def is_sweep(word: str) -> bool:
    """Whether a word lists several values for `-m`."""
    return bool(parse([word])[0].is_sweep_override())


def refuse_unknown_options(chosen: Sequence[str]) -> None:
    """ConfigError for an option that a group does not have, with those it has."""
    for word in chosen:
        _, key, value = parts(word)
        group, at, place = key.partition("@")
        shown, known, value = f"{place or group}={value}", options(group), value or "null"
        if at and place not in {f"{stage}.{group}" for stage in STAGES}:
            raise ConfigError(
                f"{word}: a stage's own {group} is chosen with <stage>.{group}=, stages are {', '.join(STAGES)}"
            )
        if value.startswith("{"):
            raise ConfigError(f"{shown}: {group}= takes the name of an option; its values are set with {group}.<key>=")
        if is_sweep(word):
            raise ConfigError(f"{shown}: several values make a sweep, and need -m" + several(group, value))
        if value.startswith("[") and group not in LISTS:
            raise ConfigError(f"{shown}: {group} takes one option; {' and '.join(LISTS)} take several")
        for name in [name.strip(" '\"") for name in value.strip("[]").split(",")]:
            if name not in {*known, "null", ""}:
                there = f"There are {', '.join(known)}" if known else "There is none yet"
                raise ConfigError(f"{shown}: {group} has no option {name}{checks.suggestion(name, known)} {there}")


def several(group: str, value: str) -> str:
    """How to choose several options at once, where a group takes them."""
    return f"; several at once are {group}=[{value}]" if group in LISTS else ""


def composed(words: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """What Hydra composes of the options that these words choose, and every group's option; new objects every time."""
    cfg, choices = _composed(CONF, tuple(words))
    return copy.deepcopy(cfg), dict(choices)


@lru_cache(maxsize=32)
def _composed(folder: Path, words: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    """Kept, because the jobs of a sweep choose the same options again and again."""
    try:
        with hydra_at(folder):
            cfg = hydra_compose("config", overrides=list(words), return_hydra_config=True)
    except ERRORS as error:
        raise ConfigError(in_words(error)) from error
    choices = {k: v for k, v in cfg.hydra.runtime.choices.items() if not k.startswith("hydra/")}
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def choices_of(words: Sequence[str]) -> dict[str, Any]:
    """Every group's option; the defaults lists alone decide it, in a third of the time that composing takes."""
    return dict(_choices_of(CONF, tuple(words)))


@lru_cache(maxsize=32)
def _choices_of(folder: Path, words: tuple[str, ...]) -> Mapping[str, Any]:
    return defaults_of(folder, words).overrides.known_choices


def root_choices(words: Sequence[str]) -> dict[str, Any]:
    """Of `choices_of` what decides the plan: method, dataset, experiment and plan.

    Where neither an experiment nor a plan was chosen, nothing but the words can change what config.yaml says, and a
    third of composing is saved.
    """
    chosen = dict(_root_defaults(CONF))
    for word in words:
        sign, key, value = parts(word)
        group = key.partition("@")[0]
        if sign or group in ("plan", "experiment", "flavour") or (key in chosen and value not in options(group)):
            return choices_of(words)
        if key in chosen:
            chosen[key] = value
    return chosen


@lru_cache(maxsize=4)
def _root_defaults(folder: Path) -> Mapping[str, Any]:
    """What the defaults list of config.yaml says of them."""
    listed = [entry for entry in read_yaml(folder / "config.yaml")["defaults"] if isinstance(entry, Mapping)]
    said = {key: value for entry in listed for key, value in entry.items()}
    return {key: said[key] for key in ("method", "dataset", "experiment", "plan")}


def plan_for(method: str, dataset: str) -> str:
    """The most specific plan that there is for a method and a dataset."""
    known = options("plan")
    return next(name for name in (f"{method}_{dataset}", method, "pretrained") if name in known)


def flavour_for(experiment: str | None, typed: str | None) -> str | None:
    """The flavour of a published system's experiment, as an option: gani/fixed unless another was typed.

    ConfigError where one is typed for an experiment that has none.
    """
    system = str(experiment).partition("/")[0]
    known = sorted(file.stem for file in (CONF / "flavour" / system).glob("*.yaml")) if experiment else []
    if typed is not None and typed not in known:
        systems = sorted(folder.name for folder in (CONF / "flavour").iterdir())
        raise ConfigError(
            f"flavour={typed}: {f'experiment={experiment}' if experiment else 'what was chosen'} has no flavours; "
            f"the experiments of {', '.join(systems)} have: experiment={systems[0]}/<name>"
        )
    return f"{system}/{typed or 'fixed'}" if known else None


def option(group: str, name: str) -> Any:
    """An option as its file has it; Hydra is asked only where that file brings in others."""
    file = CONF / group / f"{name}.yaml"
    if file.is_file() and "defaults" not in (plain := read_yaml(file)):
        return plain
    with hydra_at(CONF):
        found = OmegaConf.to_container(hydra_compose(f"{group}/{name}"), resolve=False)
    assert isinstance(found, dict)
    return found.get(group, found) if set(found) == {group} else found


def set_by_overlays(choices: Mapping[str, Any], words: Sequence[str]) -> set[str]:
    """Dotted paths of what the chosen plan, experiment and flavour set, themselves and by the files they bring in."""
    chosen = [f"{group}/{choices[group]}" for group in OVERLAYS if choices.get(group) is not None]
    if any(brings_in(path) for path in chosen):
        chosen = list(_overlays(CONF, tuple(words)))
    return {path for name in chosen for path in leaves(read_yaml(CONF / f"{name}.yaml"))}


def drop_orphans(cfg: DictConfig, choices: Mapping[str, Any], plain: Sequence[str]) -> None:
    """Take out what a plan or an experiment sets inside parts that the option typed in the place of its own lacks.

    `finetune.views=light` has no policy of augmentations, so the experiment's `policy.variant` has nothing to be of.
    """
    for place in {parts(word)[1].partition("@")[2] for word in plain} & {
        f"{s}.{g}" for s in STAGES for g in OWN if g not in LISTS
    }:
        group = place.partition(".")[2]
        said = below(set_by_overlays(choices, plain), place)
        for part in sorted(orphans(option(group, choices[f"{group}@{place}"]), said)):
            above, _, name = f"{place}.{part}".rpartition(".")
            if (node := OmegaConf.select(cfg, above)) is not None:
                with open_dict(cfg):
                    node.pop(name, None)


def brings_in(name: str) -> bool:
    """Whether a file's defaults list names other files; `override` only chooses among options."""
    listed = read_yaml(CONF / f"{name}.yaml").get("defaults", [])
    named = [str(next(iter(entry), "")) if isinstance(entry, Mapping) else str(entry) for entry in listed]
    return any(entry != "_self_" and not entry.startswith("override ") for entry in named)


@lru_cache(maxsize=32)
def _overlays(folder: Path, words: tuple[str, ...]) -> Sequence[str]:
    """The files that Hydra merges at the root from the groups of OVERLAYS."""
    files = [default.config_path for default in defaults_of(folder, words).defaults if default.package in ("", None)]
    return [file for file in files if file is not None and file.startswith(tuple(f"{group}/" for group in OVERLAYS))]
