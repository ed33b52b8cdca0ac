"""What is typed at the root of a config, put into it and into every stage that has the same option."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from smalldata_vit.overrides import parse, put
from smalldata_vit.schema import GUIDE, INHERITED, SOURCES, STAGES
from smalldata_vit.words import parts


def same_option(choices: Mapping[str, Any], group: str) -> list[str]:
    """The stages that take the root's values of a group: those with its option, but the guide's recipe is its own."""
    same = [stage for stage in STAGES if choices.get(f"{group}@{stage}.{group}") == choices.get(group)]
    return [stage for stage in same if stage != GUIDE or group == "dataset"]


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain containers, references still unresolved."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def put_typed(cfg: DictConfig, choices: Mapping[str, Any], words: Sequence[str]) -> list[tuple[str, str]]:
    """Put typed values into the config; one at the root also into each stage with the same option that got none.

    Returns every word and the path that it was put at, in order.
    """
    typed = {parts(word)[1] for word in words}
    done = []
    for word in words:
        sign, key, value = parts(word)
        [override] = parse([word])
        put(cfg, override)
        done.append((word, key))
        first = key.partition(".")[0]
        group = "dataset" if key == "image_size" else first
        for stage in same_option(choices, group) if group in INHERITED else ():
            if f"{stage}.{key}" not in typed and (stage, key) != (GUIDE, "image_size"):
                [same] = parse([f"{sign}{stage}.{key}" + ("" if value is None else f"={value}")])
                put(cfg, same)
                done.append((word, f"{stage}.{key}"))

    for stage in STAGES:
        name_one_source(cfg[stage].start_from, {key.removeprefix(f"{stage}.start_from.") for key in typed})
    return done


def name_one_source(start_from: DictConfig | None, typed: set[str]) -> None:
    """A source that was typed takes the place of the plan's."""
    if start_from is not None and any(start_from[source] is not None for source in typed.intersection(SOURCES)):
        for other in set(SOURCES).difference(typed):
            start_from[other] = None
