"""From what a person typed to one composed, checked config; from that to the self-contained config of each stage."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit import as_trained, checks
from smalldata_vit.composition import (
    CONF,
    choices_of,
    composed,
    flavour_for,
    in_words,
    is_sweep,
    option,
    options,
    plan_for,
    refuse_unknown_options,
    set_by_overlays,
)
from smalldata_vit.inheritance import below, merged
from smalldata_vit.overrides import parse
from smalldata_vit.root_values import as_written, put_typed, same_option
from smalldata_vit.schema import EVALUATE, GUIDE, INHERITED, OWN, STAGES, Stage, StartFrom
from smalldata_vit.stage_hash import config_hash
from smalldata_vit.words import ConfigError, group_of, hold_at_root, parts, quoted, rewrite

__all__ = [
    "CONF",
    "ConfigError",
    "check",
    "choice",
    "compose",
    "config_hash",
    "experiment_hash",
    "is_sweep",
    "options",
    "quoted",
    "rewrite",
    "stage_config",
]


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of the experiment that these words ask for, read-only; ConfigError if they cannot be right.

    The final method and dataset decide which plan gives the run values, so the options are settled before anything is
    composed; it is composed a second time if `views=` and the like stand at the root, for the plan says which stage is
    the method's own.
    """
    words = rewrite(overrides)
    parse(words)
    chosen = [w for w in words if group_of(parts(w)[1]) is not None]
    refuse_unknown_options(chosen)
    plain = [w for w in chosen if parts(w)[1] not in (*OWN, "flavour")]
    choices = choices_of(plain)
    flavour = flavour_for(choices["experiment"], next((parts(w)[2] for w in chosen if parts(w)[1] == "flavour"), None))
    if flavour is not None:
        plain.append(f"flavour={flavour}")
        choices = choices_of(plain)
    if choices.get("plan") is None:
        plain.append(f"plan={plan_for(choices['method'], choices['dataset'])}")
    if f"guide_{choices['dataset']}" in options("plan"):
        plain.append(f"plan@_global_=guide_{choices['dataset']}")
    cfg, choices = composed(plain)
    alone = [parts(w)[2] for w in words if parts(w)[1] == "stages"] in (["[evaluate]"], [EVALUATE])
    stage = EVALUATE if alone else next(iter(cfg.stages))
    own = [w for w in chosen if parts(w)[1] in OWN]
    if own:
        cfg, choices = composed([*plain, *hold_at_root(own, stage)])
    inherit(cfg, choices)
    typed = [w for w in words if group_of(parts(w)[1]) is None]
    put_typed(cfg, choices, hold_at_root(typed, stage))
    if all(parts(word)[1] != "stages" for word in typed):
        bring_guide(cfg)
    with open_dict(cfg):
        cfg.chosen = {key: str(value) for key, value in choices.items() if value is not None}
    if EVALUATE in cfg.stages:
        judge_as_trained(cfg, choices, words)
    OmegaConf.set_readonly(cfg, True)
    return cfg


def bring_guide(cfg: DictConfig) -> None:
    """Schedule the stage that trains a CNN before those that it guides, unless a trained one is named."""
    guided = any(name in STAGES and cfg[name].guidance for name in cfg.stages)
    if guided and GUIDE not in cfg.stages and cfg.guide.start_from is None:
        cfg.stages = [GUIDE, *cfg.stages]


def judge_as_trained(cfg: DictConfig, choices: Mapping[str, Any], words: Sequence[str]) -> None:
    """Give `evaluate` the settings of what it judges, wherever it was not given its own; of a past run the seed too."""
    source, typed = cfg[EVALUATE].start_from, {parts(word)[1] for word in words}
    if source is None:
        return
    past = as_trained.written(source, cfg.output_dir, list(cfg.stages))
    if past is None and source.stage not in STAGES:
        return
    trained = stage_config(cfg, source.stage) if past is None else past
    said = below(set_by_overlays(choices) | typed, EVALUATE)
    if past is not None and "image_size" in typed and f"{source.stage}.image_size" not in typed:
        said |= {"image_size"}
    chosen = {g for g in as_trained.GROUPS if f"{g}@{EVALUATE}.{g}" in typed}
    chosen |= {g for g in ("dataset", "arch") if choices[f"{g}@{EVALUATE}.{g}"] != choices[g]}
    options = {group: option(group, choices[f"{group}@{EVALUATE}.{group}"]) for group in as_trained.GROUPS}
    options["evaluation_view"] = Stage().evaluation_view
    taken = as_trained.settings(as_written(cfg)[EVALUATE], trained, options, said, chosen)
    with open_dict(cfg):
        for key, value in taken.items():
            cfg[EVALUATE][key] = value
        if past is not None:
            cfg.seed = cfg.seed if "seed" in typed else past["seed"]
            cfg.name = cfg.name if "name" in typed or source.stage is None else past["experiment_name"]


def inherit(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Give what a plan or an experiment sets at the root to every stage that has the same option."""
    explicit = set_by_overlays(choices)
    for group in INHERITED:
        raw = as_written(cfg)
        for stage in same_option(choices, group):
            root, own = raw[group], raw[stage][group]
            if own != root and isinstance(own, Mapping):
                said = below(explicit, f"{stage}.{group}")
                with open_dict(cfg):
                    cfg[stage][group] = merged(option(group, choices[group]), root, own, said)
    size, inherited = as_written(cfg)["image_size"], "${dataset.image_size}"
    for stage in same_option(choices, "dataset") if size != inherited else ():
        if stage != GUIDE and f"{stage}.image_size" not in explicit:
            cfg[stage].image_size = size


def choice(cfg: DictConfig, group: str) -> str:
    """The option of a group that was chosen at the root."""
    return cfg.chosen[group]


def check(cfg: DictConfig) -> None:
    """ConfigError that lists everything in the scheduled stages that cannot be right."""
    found = checks.stage_misfits(list(cfg.stages))
    for stage in cfg.stages if not found else ():
        subtrees = {*INHERITED, *OWN, "learner", "evaluation_view"} - checks.absent(stage)
        scalars = {key: cfg[stage]._get_node(key) for key in sorted(subtrees)}
        scalars = {key: node for key, node in scalars.items() if not OmegaConf.is_dict(node) or node._is_none()}
        found += [checks.no_subtree(stage, key, node._value()) for key, node in scalars.items()]
        found += checks.misfits(stage_config(cfg, stage)) if not scalars else []
    if found:
        raise ConfigError("\n".join(dict.fromkeys(found)))


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
        settings["guide_from"] = asdict(StartFrom(stage=GUIDE)) if given is None else dict(given)
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
