"""From what a person typed to one composed, checked config; from that to the self-contained config of each stage."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit import checks
from smalldata_vit.inheritance import below, leaves, merged
from smalldata_vit.overrides import near, parse, put
from smalldata_vit.schema import INHERITED, OWN, STAGES, Root
from smalldata_vit.words import GROUPS, ConfigError, group_of, hold_at_root, parts, quoted, rewrite

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

CONF = Path(__file__).resolve().parents[2] / "conf"
ConfigStore.instance().store(name="experiment_schema", node=Root)

NOT_HASHED = frozenset(
    {"trainer", "logger", "tags", "name", "experiment_name", "checkpoint_every_seconds", "pixel_baseline", "hash"}
)
"""Keys of a stage that change nothing about its weights and its own numbers."""
WHERE_IMAGES_LIE = frozenset({"root", "cache"})


def options(group: str) -> list[str]:
    """The options of a group, by name."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of the experiment that these words ask for, read-only; ConfigError if they cannot be right.

    Composed twice: the final method and dataset decide which plan gives the run values.
    """
    words = rewrite(overrides)
    parse(words)
    chosen = [w for w in words if group_of(parts(w)[1]) is not None]
    refuse_unknown_options(chosen)
    plain = [w for w in chosen if parts(w)[1] not in OWN]
    choices = composed(plain)[1]
    if choices.get("plan") is None:
        plain.append(f"plan={plan_for(choices['method'], choices['dataset'])}")
    cfg, choices = composed(plain)
    stage = list(cfg.stages)[0]
    if len(chosen) > len([w for w in chosen if parts(w)[1] not in OWN]):
        plain += hold_at_root([w for w in chosen if parts(w)[1] in OWN], stage)
        cfg, choices = composed(plain)
    inherit(cfg, choices)
    put_typed(cfg, choices, hold_at_root([w for w in words if group_of(parts(w)[1]) is None], stage))
    with open_dict(cfg):
        cfg.chosen = {key: str(value) for key, value in choices.items() if value is not None}
    OmegaConf.set_readonly(cfg, True)
    return cfg


def is_sweep(word: str) -> bool:
    """Whether a word lists several values for `-m`."""
    return bool(parse([word])[0].is_sweep_override())


def refuse_unknown_options(chosen: Sequence[str]) -> None:
    """ConfigError for an option that a group does not have, with those it has."""
    for word in chosen:
        _, key, value = parts(word)
        group = str(group_of(key))
        known = options(group)
        given = (value or "null").strip("[]").replace(" ", "").split(",")
        if (value or "").startswith("{"):
            raise ConfigError(f"{word}: {key}= takes the name of an option; its values are set with {group}.<key>=")
        if len(given) > 1 and not (value or "").startswith("["):
            raise ConfigError(f"{word}: several values make a sweep, and need -m; several at once are {key}=[{value}]")
        for name in given:
            if name.strip("'\"") not in {*known, "null", ""}:
                close = checks.suggestion(name, known)
                raise ConfigError(f"{word}: {group} has no option {name}{close} There are {', '.join(known)}")


def composed(words: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """What Hydra composes of the options that these words choose, and every group's option."""
    try:
        with hydra_at_conf():
            cfg = hydra_compose("config", overrides=list(words), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(in_words(error)) from error
    choices = {k: v for k, v in cfg.hydra.runtime.choices.items() if not k.startswith("hydra/")}
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


@contextmanager
def hydra_at_conf() -> Iterator[None]:
    """Hydra's compose API on our folder, also inside a sweep, where Hydra already runs."""
    outer = GlobalHydra.instance()
    running = outer.hydra
    outer.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def in_words(error: Exception) -> str:
    """The lines of an error of Hydra's or OmegaConf's that a reader can use."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Config search path", "provider=", "reference_type", "object_type"))]
    cause = error.__cause__
    return "; ".join([*lines, *([str(cause).splitlines()[0]] if isinstance(cause, OmegaConfBaseException) else [])])


def plan_for(method: str, dataset: str) -> str:
    """The most specific plan that there is for a method and a dataset."""
    known = options("plan")
    return next(name for name in (f"{method}_{dataset}", method, "pretrained") if name in known)


def same_option(choices: Mapping[str, Any], group: str) -> list[str]:
    """The stages that have the root's option of a group."""
    return [stage for stage in STAGES if choices.get(f"{group}@{stage}.{group}") == choices.get(group)]


def inherit(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Give what a plan or an experiment sets at the root to every stage that has the same option."""
    explicit = set()
    for group in ("plan", "experiment"):
        if choices.get(group) is not None:
            explicit |= set(leaves(OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choices[group]}.yaml"))))
    for group in INHERITED:
        root = OmegaConf.to_container(cfg[group], resolve=False)
        for stage in same_option(choices, group):
            own = OmegaConf.to_container(cfg[stage][group], resolve=False)
            if own != root:
                said = below(explicit, f"{stage}.{group}")
                with open_dict(cfg):
                    cfg[stage][group] = merged(option(group, choices[group]), root, own, said)
    size, inherited = cfg._get_node("image_size")._value(), "${dataset.image_size}"
    for stage in same_option(choices, "dataset") if size != inherited else ():
        if f"{stage}.image_size" not in explicit:
            cfg[stage].image_size = size


def option(group: str, name: str) -> Any:
    """An option as its file has it."""
    with hydra_at_conf():
        found = OmegaConf.to_container(hydra_compose(f"{group}/{name}"), resolve=False)
    assert isinstance(found, dict)
    return found.get(group, found) if set(found) == {group} else found


def put_typed(cfg: DictConfig, choices: Mapping[str, Any], words: Sequence[str]) -> None:
    """Put typed values into the config; one at the root also into each stage with the same option that got none."""
    typed = {parts(word)[1] for word in words}
    for word in words:
        sign, key, value = parts(word)
        [override] = parse([word])
        put(cfg, override)
        first = key.partition(".")[0]
        group = "dataset" if key == "image_size" else first
        for stage in same_option(choices, group) if group in INHERITED else ():
            if f"{stage}.{key}" not in typed:
                [same] = parse([f"{sign}{stage}.{key}" + ("" if value is None else f"={value}")])
                put(cfg, same)


def choice(cfg: DictConfig, group: str) -> str:
    """The option of a group that was chosen at the root."""
    return cfg.chosen[group]


def check(cfg: DictConfig) -> None:
    """ConfigError that lists everything in the scheduled stages that cannot be right."""
    found = checks.stage_misfits(list(cfg.stages))
    for stage in cfg.stages if not found else ():
        scalars = {key: cfg[stage]._get_node(key) for key in (*INHERITED, *OWN, "learner", "evaluation_view")}
        scalars = {key: node for key, node in scalars.items() if not OmegaConf.is_dict(node) or node._is_none()}
        found += [checks.no_subtree(stage, key, node._value()) for key, node in scalars.items()]
        found += checks.misfits(stage_config(cfg, stage)) if not scalars else []
    if found:
        raise ConfigError("\n".join(dict.fromkeys(found)))


def stage_config(cfg: DictConfig, stage: str) -> dict[str, Any]:
    """One stage as plain values with everything that it needs, nothing left to resolve; a new dict every time."""
    try:
        own, *shared = (
            OmegaConf.to_container(cfg[key], resolve=True, throw_on_missing=True) for key in (stage, "trainer", "logger")
        )
    except OmegaConfBaseException as error:
        raise ConfigError(in_words(error)) from error
    assert isinstance(own, dict)
    settings = {str(key): value for key, value in own.items()} | dict(zip(("trainer", "logger"), shared, strict=True))
    if cfg.debug:
        settings |= {"steps": 2, "evaluate_every_epochs": None}
    return settings | {
        "stage": stage,
        "seed": cfg.seed,
        "name": cfg.name,
        "tags": list(cfg.tags),
        "experiment_name": cfg.name or f"{choice(cfg, 'method')}_{choice(cfg, 'dataset')}",
    }


def config_hash(stage: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a stage's result: not where it runs, what it is called, or where its images lie."""
    counted = {key: value for key, value in stage.items() if key not in NOT_HASHED}
    unread = WHERE_IMAGES_LIE | (frozenset() if stage["reads_labels"] else {"labels_per_class"})
    counted["dataset"] = without(stage["dataset"], unread)
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def without(node: Any, keys: frozenset[str]) -> Any:
    """A copy of nested plain values without some keys, wherever they stand."""
    if isinstance(node, Mapping):
        return {key: without(value, keys) for key, value in node.items() if key not in keys}
    return [without(value, keys) for value in node] if isinstance(node, list) else node


def experiment_hash(cfg: DictConfig) -> str:
    """SHA-256 of all scheduled stages, in order."""
    stages = [config_hash(stage_config(cfg, stage)) for stage in cfg.stages]
    return hashlib.sha256("\n".join([*cfg.stages, *stages]).encode()).hexdigest()
