"""What each job of a sweep is: composed and checked as its command will do it, a thousand of them in seconds.

Hydra takes a third of a second for one. Jobs whose words differ by single values alone (`seed=0,1,…`, a grid of
learning rates) share one composition. What such a value changes is not assumed but looked at: a second job with
another value is composed too, and if the two differ by just that value, wherever it may have gone, the others are the
first with their own values there. Where anything else differs, each value is composed by itself.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from smalldata_vit import checks, config
from smalldata_vit.overrides import parse
from smalldata_vit.sweep_values import Path, Value, differing, holds, put
from smalldata_vit.words import ConfigError, group_of, parts


@dataclass(frozen=True)
class Composed:
    """One job's experiment, plain and read-only.

    Arguments:
        stages: the resolved config of every stage, in the order in which they run.
        store: where finished stages are shared, None if they are not.
        output_dir: as it was typed for this job, None if it was not.
    """

    stages: Mapping[str, dict[str, Any]]
    store: str | None
    output_dir: str | None

    @cached_property
    def hashes(self) -> dict[str, str]:
        """`config_hash` of every stage."""
        return {name: config.config_hash(stage) for name, stage in self.stages.items()}

    @cached_property
    def hash(self) -> str:
        """What `config.experiment_hash` says of the same job."""
        return hashlib.sha256("\n".join([*self.stages, *self.hashes.values()]).encode()).hexdigest()

    def shared(self) -> dict[str, str]:
        """A key for every stage that goes to the store: jobs with the same key make the same stage.

        It stands for `store.stage_key`, whose hash of the images is known only once they are loaded: here their
        description takes its place.
        """
        keys: dict[str, str] = {}
        for name, stage in self.stages.items() if self.store is not None else ():
            sources = [stage["start_from"], stage.get("guide_from")]
            decides = [self.store, self.hashes[name], stage["dataset"], stage["seed"]]
            decides += [[keys.get((source or {}).get("stage") or ""), source] for source in sources]
            keys[name] = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
        return keys


@dataclass
class _Template:
    """A job that was composed in full, and where the values of its words went.

    `cfg` is a config to resolve `output_dir` in; `proven` holds sets of keys that were changed together and compared.
    """

    words: Sequence[str]
    values: dict[str, Value]
    tree: dict[str, Any]
    cfg: DictConfig
    places: dict[str, list[Path]] = field(default_factory=dict)
    proven: set[frozenset[str]] = field(default_factory=set)


class Composer:
    """Composes and checks the jobs of a sweep.

    Arguments:
        fixed: words that are the same for every job.
    """

    def __init__(self, fixed: Sequence[str]) -> None:
        self.fixed = list(fixed)
        self.templates: dict[tuple[str, ...], _Template] = {}
        self.apart: set[str] = set()
        """Keys that change more than their own value."""

    def __call__(self, words: Sequence[str]) -> Composed:
        """The job with these words of its own; ConfigError if it cannot be right."""
        values = self._values(words)
        shape = tuple(_shape(word, values) for word in words)
        template = self.templates.get(shape)
        if template is None:
            cfg, tree = in_full([*self.fixed, *words])
            self.templates[shape] = template = _Template(list(words), values, tree, cfg)
            return self._composed(tree, template, values)
        changed = {key: value for key, value in values.items() if value != template.values[key]}
        for key in changed:
            if key not in template.places and not self._learn(template, key, words):
                self.apart.add(key)
                return self(words)
        tree = template.tree
        for key, value in changed.items():
            tree = put(tree, template.places[key], value)
        if len(changed) > 1 and frozenset(changed) not in template.proven:
            if in_full([*self.fixed, *words])[1] != tree:
                self.apart |= set(changed)
                return self(words)
            template.proven.add(frozenset(changed))
        found = [misfit for stage in tree["stages"].values() for misfit in checks.misfits(stage)] if changed else []
        if found:
            raise ConfigError("\n".join(dict.fromkeys(found)))
        return self._composed(tree, template, values)

    def _values(self, words: Sequence[str]) -> dict[str, Value]:
        """The words that set one key to one value each."""
        keys = [parts(word)[1] for word in [*self.fixed, *words]]
        values = {parts(word)[1]: value_of(word) for word in words}
        return {k: v for k, v in values.items() if v is not None and k not in self.apart and keys.count(k) == 1}

    def _learn(self, template: _Template, key: str, words: Sequence[str]) -> bool:
        """Find out where a key's value goes; False if it does more than go somewhere."""
        [word] = [word for word in words if parts(word)[1] == key]
        typed = [word if parts(old)[1] == key else old for old in template.words]
        value, before = value_of(word), template.values[key]
        assert value is not None, "the key is one of the job's values"
        try:
            _, tree = in_full([*self.fixed, *typed])
        except ConfigError:
            return False  # this job is composed by itself, and says what is wrong
        places = list(differing(template.tree, tree))
        if not all(holds(template.tree, at, before) and holds(tree, at, value) for at in places):
            return False
        template.places[key] = places
        return True

    def _composed(self, tree: dict[str, Any], template: _Template, values: Mapping[str, Value]) -> Composed:
        for key, value in values.items() if any("${" in word for word in self.fixed) else ():
            if OmegaConf.select(template.cfg, key) is not None:
                OmegaConf.update(template.cfg, key, value)
        place = template.cfg.output_dir
        return Composed(tree["stages"], tree["store"], None if place is None else str(place))


def in_full(typed: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """A job as its command composes it, checked, and what of it decides the sweep; ConfigError if it cannot be right.

    The config may be written to.
    """
    cfg = config.compose(typed)
    config.check(cfg)
    stages = {name: config.stage_config(cfg, name) for name in cfg.stages}
    OmegaConf.set_readonly(cfg, False)
    return cfg, {"stages": stages, "store": cfg.store}


@lru_cache(maxsize=4096)
def value_of(word: str) -> Value | None:
    """The single value that a word gives to a key; None for lists, for null, and for what chooses an option."""
    sign, key, text = parts(word)
    if sign or text is None or "${" in text or group_of(key) is not None or key == "output_dir":
        return None
    value: Any = parse([word])[0].value()
    return value if isinstance(value, bool | int | float | str) else None


def _shape(word: str, values: Mapping[str, Value]) -> str:
    key = parts(word)[1]
    return f"{key}: {type(values[key]).__name__}" if key in values else word
