"""The keys and values that a word of the command line may have, looked up in the option files that others choose."""

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

import hydra_plugins.smalldata_vit as plugins
from smalldata_vit import composition, config, signatures
from smalldata_vit.explain.trace import Place, Trace
from smalldata_vit.hydra_files import defaults_of, read_yaml
from smalldata_vit.schema import ALLOWED_FOR_TRAINER, ALLOWED_VALUES, INHERITED, OWN, STAGES, Root, Stage, StartFrom
from smalldata_vit.schema import Trainer as TrainerSettings
from smalldata_vit.words import GROUPS, ConfigError, group_of, parts, rewrite

HYDRA = ("hydra/launcher", "hydra/sweeper")
"""Groups of Hydra's that mean something here."""
PATHS = ("output_dir", "store", "root", "cache", "file", "chosen")
"""Last names of keys whose values lie on the disk."""


def keys(word: str, words: Sequence[str], plain: bool) -> Iterator[str]:
    """Keys that begin with what stands before the last dot of a word; `plain`: for a flag that takes a key."""
    sign = word[: len(word) - len(word.lstrip("+~"))]
    above, dot, _ = word.removeprefix(sign).rpartition(".")
    at = tuple(above.split(".")) if dot else ()
    inner, leaf = children(at, words)
    prefix = f"{sign}{above}{dot}"
    for name in sorted(inner):
        yield f"{prefix}{name}" if plain else f"{prefix}{name}."
    for name in sorted(leaf):
        yield f"{prefix}{name}" if plain else f"{prefix}{name}="
    chosen = GROUPS if not at else INHERITED + OWN if len(at) == 1 and at[0] in STAGES else ()
    yield from (f"{prefix}{group}=" for group in chosen if not plain)
    if not at and not plain:
        yield from (f"{group}=" for group in HYDRA)


def children(at: Place, words: Sequence[str]) -> tuple[set[str], set[str]]:
    """Names of the subtrees and of the values right below a place."""
    if at[:1] == ("hydra",):
        return ({"launcher", "sweeper"}, set()) if len(at) == 1 else (set(), settings_of(at, words))
    schema = {f.name for f in fields(schema_of(at))} if schema_of(at) is not None else set()
    if not at:
        inner = {*STAGES, *INHERITED, *OWN, "trainer", "logger"}
        return inner | {"hydra"}, schema - inner - {"chosen"}
    at = own_stage(at, words)
    below = merged(words, at).below(at)
    inner = {place[0] for place in below if len(place) > 1}
    leaf = {place[0] for place in below if len(place) == 1}
    if len(at) == 1 and at[0] in STAGES:
        inner |= {*INHERITED, *OWN, "start_from", "evaluation_view", "learner"}
    target = below.get(("_target_",))
    taken = (
        signatures.signature(str(target.value)) if target and str(target.value).startswith("smalldata_vit.") else None
    )
    return inner, (leaf | schema | set(taken.parameters if taken else ())) - inner


def schema_of(at: Place) -> Any:
    """The dataclass of a place, None where a group brings in what there is."""
    if not at:
        return Root
    if at == ("trainer",):
        return TrainerSettings
    stage = at[0] in STAGES
    return Stage if stage and len(at) == 1 else StartFrom if stage and at[1:] == ("start_from",) else None


def merged(words: Sequence[str], at: Place) -> Trace:
    """What the option files that these words choose say at and around a place; nothing if the words are no good yet."""
    trace = Trace()
    for place, file in chosen_files(words):
        together = min(len(place), len(at))
        if place[:together] == at[:together]:
            content = {key: value for key, value in read_yaml(file).items() if key not in ("defaults", "hydra")}
            if place or at[0] in content:
                trace.lay(content, str(file), at=place)
    return trace


def chosen_files(words: Sequence[str]) -> Sequence[tuple[Place, Path]]:
    """The option files that these words choose, in the order in which they are merged, and where each is put."""
    return _chosen_files(composition.CONF, tuple(words))


@lru_cache(maxsize=4)
def _chosen_files(folder: Path, words: tuple[str, ...]) -> Sequence[tuple[Place, Path]]:
    typed = [word for word in words if "=" in word and not word.startswith(("hydra", "-"))]
    try:
        chosen = [word for word in rewrite(typed) if group_of(parts(word)[1]) and not config.is_sweep(word)]
        composition.refuse_unknown_options(chosen)
        found = defaults_of(folder, config.with_plan(chosen)).defaults
    except ConfigError:
        return []
    placed = [(str(one.package), folder / f"{one.config_path}.yaml") for one in found]
    return [(tuple(filter(None, place.split("."))), file) for place, file in placed if file.is_file()]


def own_stage(at: Place, words: Sequence[str]) -> Place:
    """The place that a key at the root means whose group every stage has for itself: that of the method's stage."""
    if not at or at[0] not in OWN:
        return at
    roots = [read_yaml(file) for place, file in chosen_files(words) if not place]
    stages = [content["stages"] for content in roots if "stages" in content]
    return (str(stages[-1][0]), *at) if stages and stages[-1] else at


def settings_of(at: Place, words: Sequence[str]) -> set[str]:
    """What the launcher or the sweeper takes that these words choose."""
    group, where = "/".join(at), known_to_hydra("/".join(at))
    chosen = next((parts(w)[2] for w in reversed(words) if parts(w)[1] == group), "smalldata_vit")
    if chosen not in where:
        return set()
    node: Any = ConfigStore.instance().load(f"{group}/{chosen}.yaml").node
    return {str(key) for key in node if not str(key).startswith("_") and key != "defaults"}


def known_to_hydra(group: str) -> list[str]:
    """The options of one of Hydra's groups that are ours."""
    for found in pkgutil.iter_modules(plugins.__path__):
        import_module(f"{plugins.__name__}.{found.name}")
    try:
        listed = ConfigStore.instance().list(group)
    except OSError:  # a group that nobody has put anything into
        return []
    nodes = {name.removesuffix(".yaml"): name for name in listed if name.endswith(".yaml")}
    ours = [
        n for n, file in nodes.items() if ConfigStore.instance().load(f"{group}/{file}").provider == "smalldata_vit"
    ]
    return sorted(ours)


def values(word: str, words: Sequence[str]) -> Iterator[str]:
    """The word with each value that its key may have; the last of a list, where one was begun."""
    sign, key, value = parts(word)
    text = value or ""
    begun = text[: max(text.rfind(","), text.rfind("[")) + 1]
    for one in possible(sign, key, text, words):
        yield f"{sign}{key}={begun}{one}" if not one.startswith("[") else f"{sign}{key}={one}"


def possible(sign: str, key: str, value: str, words: Sequence[str]) -> Sequence[str]:
    """The values that a key may have, or the one that it has."""
    stage, _, rest = key.partition(".")
    group = rest if stage in STAGES and rest in INHERITED + OWN else group_of(key)
    if group == "flavour":
        return flavours(words)
    if group is not None:
        return composition.options(group)
    if key in HYDRA:
        return known_to_hydra(key)
    if key in ("stages", "debug"):
        return STAGES if key == "stages" else ("true", "false")
    if stage in STAGES and rest in ALLOWED_VALUES:
        return ALLOWED_VALUES[rest]
    if stage == "trainer" and rest in ALLOWED_FOR_TRAINER:
        return ALLOWED_FOR_TRAINER[rest]
    if key.rpartition(".")[2] in PATHS:
        return on_disk(value)
    at = own_stage(tuple(key.split(".")), words)
    held = merged(words, at[:-1]).said.get(at) if len(at) > 1 else None
    return () if held is None else as_typed(held[-1].value)


def flavours(words: Sequence[str]) -> list[str]:
    """Those of the experiment that was typed, else all that there are."""
    experiment = next((parts(word)[2] or "" for word in words if parts(word)[1] == "experiment"), "")
    own = composition.CONF / "flavour" / experiment.partition("/")[0]
    return sorted(file.stem for file in own.glob("*.yaml")) or composition.options("flavour")


def as_typed(value: Any) -> tuple[str, ...]:
    """A value as one would type it; of a truth value both."""
    if isinstance(value, bool):
        return ("true", "false")
    if isinstance(value, list | Mapping):
        return ()
    text = "null" if value is None else str(value)
    return () if "${" in text or " " in text else (text,)


def on_disk(begun: str) -> list[str]:
    """Files and folders whose path begins so."""
    folder, _, name = begun.rpartition("/")
    root = Path(folder or ("/" if begun.startswith("/") else ".")).expanduser()
    if not root.is_dir():
        return []
    head = begun[: len(begun) - len(name)]
    found = [p for p in root.iterdir() if p.name.startswith(name) and not p.name.startswith(".")]
    return [f"{head}{p.name}{'/' if p.is_dir() else ''}" for p in found]
