"""From what a person typed to one composed, checked config; from that to the self-contained config of each stage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit import as_trained, checks
from smalldata_vit.composition import (
    CONF,
    composed,
    drop_orphans,
    flavour_for,
    is_sweep,
    option,
    options,
    plan_for,
    refuse_unknown_options,
    root_choices,
    set_by_overlays,
)
from smalldata_vit.inheritance import below, merged
from smalldata_vit.overrides import parse
from smalldata_vit.root_values import as_written, put_typed, same_option
from smalldata_vit.schema import EVALUATE, GUIDE, INHERITED, OWN, STAGES, Stage
from smalldata_vit.stage_hash import config_hash
from smalldata_vit.stage_settings import choice, experiment_hash, stage_config
from smalldata_vit.words import ConfigError, group_of, hold_at_root, parts, quoted, rewrite

__all__ = [
    "CONF",
    "ConfigError",
    "OmegaConfBaseException",
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


@dataclass(frozen=True)
class Made:
    """The config as a step of composing leaves it; the next step changes the same object.

    Arguments:
        step: options (all option files merged), inherited, typed, guide or judged.
        words: what Hydra was given to choose the options.
        put: with `typed`, every word and the path that it was put at, in order.
    """

    step: str
    cfg: DictConfig
    choices: Mapping[str, Any]
    words: Sequence[str]
    put: Sequence[tuple[str, str]] = ()


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of the experiment that these words ask for, read-only; ConfigError if they cannot be right."""
    *_, made = composing(overrides)
    OmegaConf.set_readonly(made.cfg, True)
    return made.cfg


def composing(overrides: Sequence[str]) -> Iterator[Made]:
    """The steps by which a config comes about, the last with what `compose` returns.

    The final method and dataset decide which plan gives the run values, so the options are settled before anything is
    composed; it is composed a second time if `views=` and the like stand at the root, for the plan says which stage is
    the method's own.
    """
    words = rewrite(overrides)
    parse(words)
    chosen = [w for w in words if group_of(parts(w)[1]) is not None]
    refuse_unknown_options(chosen)
    plain = with_plan(chosen)
    cfg, choices = composed(plain)
    alone = [parts(w)[2] for w in words if parts(w)[1] == "stages"] in (["[evaluate]"], [EVALUATE])
    if OmegaConf.is_missing(cfg, "stages"):
        raise ConfigError(
            f"plan={choices['plan']} says of no stage that it runs: choose another plan, or an experiment"
        )
    stage = EVALUATE if alone else next(iter(cfg.stages))
    own = [w for w in chosen if parts(w)[1] in OWN]
    if own:
        plain = [*plain, *hold_at_root(own, stage)]
        cfg, choices = composed(plain)
    yield Made("options", cfg, choices, plain)
    drop_orphans(cfg, choices, plain)
    inherit(cfg, choices, plain)
    yield Made("inherited", cfg, choices, plain)
    typed = [w for w in words if group_of(parts(w)[1]) is None]
    put = put_typed(cfg, choices, hold_at_root(typed, stage))
    yield Made("typed", cfg, choices, plain, put)
    if all(parts(word)[1] != "stages" for word in typed):
        bring_guide(cfg)
    with open_dict(cfg):
        cfg.chosen = {key: str(value) for key, value in choices.items() if value is not None}
    yield Made("guide", cfg, choices, plain)
    if EVALUATE in cfg.stages:
        judge_as_trained(cfg, choices, words, plain)
    yield Made("judged", cfg, choices, plain)


def with_plan(chosen: Sequence[str]) -> list[str]:
    """The words that choose options, without those of a single stage, with the flavour and the plans that follow."""
    plain = [w for w in chosen if parts(w)[1] not in (*OWN, "flavour")]
    choices = root_choices(plain)
    flavour = flavour_for(choices["experiment"], next((parts(w)[2] for w in chosen if parts(w)[1] == "flavour"), None))
    if flavour is not None:
        plain.append(f"flavour={flavour}")
        choices = root_choices(plain)
    if choices.get("plan") is None:
        plain.append(f"plan={plan_for(choices['method'], choices['dataset'])}")
    if f"guide_{choices['dataset']}" in options("plan"):
        plain.append(f"plan@_global_=guide_{choices['dataset']}")
    return plain


def bring_guide(cfg: DictConfig) -> None:
    """Schedule the stage that trains a CNN before those that it guides, unless a trained one is named."""
    guided = any(name in STAGES and cfg[name].guidance for name in cfg.stages)
    if guided and GUIDE not in cfg.stages and cfg.guide.start_from is None:
        cfg.stages = [GUIDE, *cfg.stages]


def judge_as_trained(cfg: DictConfig, choices: Mapping[str, Any], words: Sequence[str], plain: Sequence[str]) -> None:
    """Give `evaluate` the settings of what it judges, wherever it was not given its own; of a past run the seed too."""
    source, typed = cfg[EVALUATE].start_from, {parts(word)[1] for word in words}
    if source is None:
        return
    past = as_trained.written(source, cfg.output_dir, list(cfg.stages))
    if past is None and source.stage not in STAGES:
        return
    trained = stage_config(cfg, source.stage) if past is None else past
    said = below(set_by_overlays(choices, plain) | typed, EVALUATE)
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


def inherit(cfg: DictConfig, choices: Mapping[str, Any], plain: Sequence[str]) -> None:
    """Give what a plan or an experiment sets at the root to every stage that has the same option."""
    explicit = set_by_overlays(choices, plain)
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
