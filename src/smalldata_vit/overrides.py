"""Single words of a command line: parsed by Hydra's grammar, put into a config one by one, refused in our words."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException, ValidationError

from smalldata_vit import signatures
from smalldata_vit.inheritance import leaves
from smalldata_vit.schema import STAGES, StartFrom
from smalldata_vit.words import ConfigError, parts


def parse(words: Sequence[str]) -> list[Override]:
    """Each word by Hydra's grammar; ConfigError with the way to quote a value that is none."""
    parser, parsed = OverridesParser.create(), []
    for word in words:
        try:
            parsed.append(parser.parse_override(word))
        except HydraException as error:
            _, key, value = parts(word)
            raise ConfigError(
                f"{word}: the value cannot be read ({str(error).splitlines()[0]}). "
                f"A text with =, commas, brackets or spaces is quoted twice: '{key}=\"{value}\"'"
            ) from error
    return parsed


def put(cfg: DictConfig, override: Override) -> None:
    """Do what a word asks for; ConfigError for an unknown key or a value of the wrong type."""
    word, key = str(override.input_line), override.key_or_group
    if override.package is not None or override.is_sweep_override():
        reason = (
            "several values make a sweep, and need -m" if override.is_sweep_override() else "there is no such group"
        )
        raise ConfigError(f"{word}: {reason}")
    open_start_from(cfg, key, whole=not override.is_delete() and isinstance(override.value(), dict))
    force = locate(cfg, key, word, adds=override.is_add() or override.is_force_add())
    try:
        if override.is_delete():
            delete(cfg, key)
        else:
            OmegaConf.update(cfg, key, override.value(), merge=True, force_add=force)
    except ValidationError as error:
        raise ConfigError(f"{word}: {str(error).splitlines()[0]}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{word}: {str(error).splitlines()[0]}{near(cfg, key)}") from error


def open_start_from(cfg: DictConfig, key: str, whole: bool) -> None:
    """`finetune.start_from.file=…` says where to start although the plan says from scratch; `whole`: `={file: …}`."""
    stage, _, rest = key.partition(".")
    names_it = rest.startswith("start_from.") or (whole and rest == "start_from")
    if stage in STAGES and names_it and cfg[stage].start_from is None:
        cfg[stage].start_from = StartFrom()


def delete(cfg: DictConfig, key: str) -> None:
    """Take a key away."""
    above, _, last = key.rpartition(".")
    with open_dict(cfg):
        del (OmegaConf.select(cfg, above) if above else cfg)[last]


def locate(cfg: DictConfig, key: str, word: str, adds: bool) -> bool:
    """Whether a key is new and may be, False if it is there; ConfigError for one that may not.

    New may be: an argument that its `_target_` takes and no YAML names; and, with the sign `+` (`adds`), anything in a
    subtree that a group brought in.
    """
    node: Any = cfg
    names = key.split(".")
    for place, name in enumerate(names):
        if isinstance(node, ListConfig):
            if not name.isdigit() or int(name) >= len(node):
                raise ConfigError(
                    f"{word}: {'.'.join(names[:place])} is a list of {len(node)}; there is no entry {name}"
                )
            node = node._get_node(int(name))
            continue
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            held = None if not hasattr(node, "_value") else node._value()
            raise ConfigError(f"{word}: {'.'.join(names[:place])} is {held!r} here, so it has no {name}")
        if name not in node:
            taken = taken_by(node)
            if (name in taken and place == len(names) - 1) or (adds and OmegaConf.get_type(node) is dict):
                return True
            close = get_close_matches(name, taken, n=1)
            here = ".".join(names[: place + 1])
            if name in taken:
                raise ConfigError(f"{word}: there is no {here} here, so it has no {names[place + 1]}")
            said = f". Did you mean {'.'.join([*names[:place], close[0]])}?" if close else near(cfg, here)
            raise ConfigError(f"{word}: there is no key {here}{said}")
        node = node._get_node(name)
    return False


def taken_by(node: DictConfig) -> list[str]:
    """Names that the `_target_` of a node takes, none without one."""
    target = node.get("_target_")
    signature = signatures.signature(target) if isinstance(target, str) else None
    return list(signature.parameters) if signature else []


def near(cfg: DictConfig, key: str) -> str:
    """The end of a sentence: the known keys closest to an unknown one, by their whole path or their last name."""
    known = list(leaves(OmegaConf.to_container(cfg, resolve=False)))
    inner = {above for path in known for above in ancestors(path)} | set(known)
    last = key.rpartition(".")[2]
    by_last = sorted(path for path in inner if path.rpartition(".")[2] == last)
    depth = key.count(".")
    close = get_close_matches(key, sorted(p for p in inner if p.count(".") == depth), n=1, cutoff=0.75)
    found = (close or by_last or get_close_matches(key, sorted(inner), n=1, cutoff=0.6))[:3]
    return f". Did you mean {' or '.join(found)}?" if found else "."


def ancestors(path: str) -> list[str]:
    """The paths of all subtrees that hold a key."""
    names = path.split(".")
    return [".".join(names[:n]) for n in range(1, len(names))]
