"""The values of a config and, for each, all that was said of it, laid one over another as OmegaConf merges."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, ...]
"""The names on the way to a value; places in lists are names too."""


@dataclass(frozen=True)
class Said:
    """What one source says of a value.

    Arguments:
        value: as it is written there, references unresolved.
        by: the file, or the word on the command line.
        how: by which way it got here, empty if it stands there as it is.
    """

    value: Any
    by: str
    how: str = ""


@dataclass
class Trace:
    """Every value of a config with all that was said of it, the first first and the one that holds last."""

    said: dict[Place, list[Said]] = field(default_factory=dict)

    def lay(self, value: Any, by: str, how: str = "", at: Place = ()) -> None:
        """Put what a source says over what there is, as OmegaConf merges: mappings key by key, all else as a whole."""
        if isinstance(value, Mapping) and value:
            self.said.pop(at, None)
            for key, inner in value.items():
                self.lay(inner, by, how, (*at, str(key)))
        elif isinstance(value, list) and value:
            self.clear(at)
            for place, inner in enumerate(value):
                self.lay(inner, by, how, (*at, str(place)))
        elif not (isinstance(value, Mapping) and self.below(at)):
            self.said[at] = [*self.clear(at), Said(value, by, how)]

    def settle(self, actual: Mapping[Place, Any], explain: Callable[[Place, Any], Said]) -> None:
        """Make the values those of the config; `explain(place, value)` says where one comes from that is another."""
        for place in [place for place in self.said if place not in actual]:
            del self.said[place]
        for place, value in actual.items():
            chain = self.said.setdefault(place, [])
            if not chain or not same(chain[-1].value, value):
                chain.append(explain(place, value))
            elif type(chain[-1].value) is not type(value):
                chain[-1] = Said(value, chain[-1].by, chain[-1].how)

    def below(self, at: Place) -> dict[Place, Said]:
        """What holds in a subtree, by place below it."""
        return {p[len(at) :]: chain[-1] for p, chain in self.said.items() if p[: len(at)] == at and len(p) > len(at)}

    def clear(self, at: Place) -> list[Said]:
        """Take away what stands at a place; returns what was said of it, of a subtree in one piece."""
        below = self.below(at)
        for place in below:
            del self.said[(*at, *place)]
        if not below:
            return self.said.pop(at, [])
        sources = ", ".join(dict.fromkeys(one.by for one in below.values()))
        return [Said({".".join(place): one.value for place, one in below.items()}, sources)]


def leaves_of(node: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of nested mappings and lists that holds no other, empty ones included."""
    if isinstance(node, Mapping | list) and node:
        entries = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, inner in entries:
            yield from leaves_of(inner, (*at, str(key)))
    elif at:
        yield at, node


def same(one: Any, other: Any) -> bool:
    """Whether two values are one but for their type, which a schema may change."""
    return bool(one == other) or str(one).lower() == str(other).lower()
