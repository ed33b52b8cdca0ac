"""`--explain`: the composed experiment as a tree, with where every value comes from; or one value with all it beat."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smalldata_vit import config
from smalldata_vit.explain.layers import Explained, explained
from smalldata_vit.explain.trace import Place, Said, leaves_of
from smalldata_vit.overrides import near
from smalldata_vit.root_values import as_written
from smalldata_vit.schema import STAGES
from smalldata_vit.words import ConfigError

FLAG = "--explain"
WIDTH = 56
"""Column at which origins begin, where values leave it free."""
SETTINGS = ("seed", "name", "tags", "stages", "output_dir", "store", "debug", "trainer", "logger")
"""What holds for the whole experiment; everything else at the root is handed on to stages, which show it."""
LONGEST_CHAIN = 9
"""References that are followed from one to the next."""

_CODE = re.compile("\x1b\\[[0-9;]*m")
_REFERENCE = re.compile(r"\$\{(\.*)([A-Za-z_][\w.]*)\}")


def explain(words: Sequence[str]) -> int:
    """Print what `--explain [key]` asks for among what was typed; returns the exit status.

    ConfigError: words that cannot be right, a key that is not there, or, after the tree, what the check finds wrong.
    """
    at = next(place for place, word in enumerate(words) if word.partition("=")[0] == FLAG)
    _, given, key = words[at].partition("=")
    before, after = list(words[:at]), list(words[at + 1 :])
    if not given and after and "=" not in after[0] and after[0][:1] not in "-+~":
        key = after.pop(0)
    flags = [word for word in [*before, *after] if word.startswith("-")]
    if flags:
        raise ConfigError(f"{flags[0]}: {FLAG} shows one experiment, and goes with no other flag")
    found = explained([*before, *after])
    print("\n".join(shown(found, key or None, _Paint(on_terminal(sys.stdout)))))
    config.check(found.made.cfg)
    return 0


def shown(found: Explained, key: str | None, paint: "_Paint") -> list[str]:
    """The lines of the scheduled stages, or of the subtree or single value at a dotted key."""
    if key is None:
        return [*_heading(found, paint), *_tree(found, paint)]
    place = tuple(key.split("."))
    if place in found.trace.said:
        return list(_chain(found, place, paint))
    if not found.trace.below(place):
        raise ConfigError(f"{FLAG} {key}: there is no such key{near(found.made.cfg, key)}")
    return list(_subtree(found, place, paint))


def on_terminal(output: Any) -> bool:
    """Whether colours reach a person who has not asked for none (NO_COLOR)."""
    return bool(output.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Paint:
    """Colours, or none."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    def origin(self, said: Said) -> str:
        """Where a value comes from; what was typed stands out."""
        text = f"{said.by} ({said.how})" if said.how else said.by
        return self(text, "33" if said.by.startswith("command line") else "2")

    def line(self, depth: int, name: str, value: str, origin: str) -> str:
        """One line of the tree."""
        shown = f"{'  ' * depth}{self(f'{name}:', '1')}{' ' if value else ''}{value}"
        length = len(_CODE.sub("", shown))
        return shown + (" " * max(2, WIDTH - length) + origin if origin else "")


def _heading(found: Explained, paint: _Paint) -> Iterator[str]:
    """Which options were chosen for the experiment, and by whom."""
    choices = found.made.choices
    typed = {word.partition("=")[0] for word in found.made.words}
    for group in ("experiment", "flavour", "plan"):
        if choices.get(group) is None:
            continue
        by = {"plan": f"method={choices['method']} dataset={choices['dataset']}", "flavour": "the experiment's own"}
        named = group == "experiment" or (group == "plan" and choices.get("experiment") is not None)
        origin = "command line" if group in typed and named else by.get(group, "conf/config.yaml")
        yield paint.line(0, f"({group})", str(choices[group]), paint(origin, "2"))


def _tree(found: Explained, paint: _Paint) -> Iterator[str]:
    """What the scheduled stages use: the settings of all, then each stage."""
    for name in (*SETTINGS, *found.made.cfg.stages):
        yield from _subtree(found, (name,), paint) if name in SETTINGS or name in STAGES else ()


def _subtree(found: Explained, at: Place, paint: _Paint) -> Iterator[str]:
    """A subtree, every value with its origin, every group's with the option that it began with."""
    shown: set[Place] = {at[:n] for n in range(len(at))}
    for place, text, said in _entries(found, at):
        for depth in range(len(at), len(place)):
            if place[:depth] not in shown:
                shown.add(place[:depth])
                chosen = found.chosen.get(place[:depth])
                option, by = ("", "") if chosen is None else (f"<{chosen.option}>", chosen.by)
                yield paint.line(depth - 1, place[depth - 1], paint(option, "36"), paint(by, "36"))
        chosen = found.chosen.get(place)
        option = "" if chosen is None else f"<{chosen.option}> "
        yield paint.line(len(place) - 1, place[-1], f"{paint(option, '36')}{text}", paint.origin(said))


def _entries(found: Explained, at: Place) -> Iterator[tuple[Place, str, Said]]:
    """What stands in a subtree, in the config's order: each value, a list of values of one origin as one."""
    rank = {place: number for number, (place, _) in enumerate(leaves_of(as_written(found.made.cfg)))}
    places = [at] if at in found.trace.said else [(*at, *place) for place in found.trace.below(at)]
    done = set[Place]()
    for place in sorted(places, key=rank.__getitem__):
        said, above = found.trace.said[place][-1], place[:-1]
        beside = [(*above, *one) for one in found.trace.below(above)] if place[-1].isdigit() else []
        ends = [found.trace.said[other][-1] for other in beside]
        if above in done:
            continue
        if beside and above != () and len(above) >= len(at) and _is_list(found, above) and _alike(beside, ends):
            done.add(above)
            yield above, f"[{', '.join(_value(found, p, one) for p, one in zip(beside, ends, strict=True))}]", said
        else:
            yield place, _value(found, place, said), said


def _is_list(found: Explained, place: Place) -> bool:
    return OmegaConf.is_list(OmegaConf.select(found.made.cfg, ".".join(place)))


def _alike(places: Sequence[Place], said: Sequence[Said]) -> bool:
    """Whether all stand side by side and come from one source."""
    return len({(one.by, one.how) for one in said}) == 1 and len({place[:-1] for place in places}) == 1


def _value(found: Explained, place: Place, said: Said) -> str:
    """A value as it is used; a reference with what it says."""
    if isinstance(said.value, str) and "${" in said.value:
        return f"{_written(_resolved(found, place))} = {said.value}"
    return _written(said.value)


def _resolved(found: Explained, place: Place) -> Any:
    try:
        value = OmegaConf.select(found.made.cfg, ".".join(place), throw_on_missing=True)
    except OmegaConfBaseException as error:
        return f"? ({str(error).splitlines()[0]})"
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _written(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str) and (value == "" or value != value.strip() or value.lower() in ("null", "true", "false")):
        return repr(value)
    return str(value)


def _chain(found: Explained, place: Place, paint: _Paint) -> Iterator[str]:
    """One value, then all that was said of it, the one that holds first, and what it refers to."""
    key = ".".join(place)
    for _ in range(LONGEST_CHAIN):
        chain = found.trace.said[place]
        yield f"{paint(key, '1')} = {_value(found, place, chain[-1])}"
        for rank, said in enumerate(reversed(chain)):
            text = f"  {_written(said.value)}"
            mark = "" if rank == 0 else paint(" (beaten)", "2")
            yield text + " " * max(2, WIDTH - len(text)) + paint.origin(said) + mark
        target = _target(place, chain[-1].value)
        if target is None or target not in found.trace.said:
            return
        place, key = target, ".".join(target)


def _target(place: Place, value: Any) -> Place | None:
    """The place that a value refers to, if it is a single reference."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    dots, key = match.groups()
    return (*(place[: -len(dots)] if dots else ()), *key.split("."))
