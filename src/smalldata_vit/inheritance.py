"""What is set at the root of a config holds for every stage with the same option, unless the stage says otherwise."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

ABSENT = object()
"""Stands for a key that one of the three sides of a merge does not have."""


def merged(option: Any, root: Any, own: Any, explicit: Collection[str] = (), path: str = "") -> Any:
    """The three-way merge of an option's file, the root's version of it, and a stage's own.

    A value that the stage changed stays; so does one that is among the `explicit` paths, though it equals the file's.
    Everywhere else the root's change is taken, removals and additions included.
    """
    if path in explicit:
        return own
    if isinstance(root, Mapping) and isinstance(own, Mapping):
        base = option if isinstance(option, Mapping) else {}
        sides = {
            key: merged(
                base.get(key, ABSENT),
                root.get(key, ABSENT),
                own.get(key, ABSENT),
                explicit,
                f"{path}.{key}" if path else str(key),
            )
            for key in {**own, **root}
        }
        return {key: value for key, value in sides.items() if value is not ABSENT}
    return root if own == option else own


def orphans(option: Any, paths: Collection[str]) -> set[str]:
    """Parts that an option lacks and of which the paths set single values only, without saying what they are."""
    found = set()
    for path in paths:
        names, node = path.split("."), option
        for place, name in enumerate(names[:-1]):
            if not isinstance(node, Mapping) or name not in node:
                part = ".".join(names[: place + 1])
                found |= {part} if f"{part}._target_" not in paths else set()
                break
            node = node[name]
    return found


def leaves(node: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of everything in nested mappings that is no mapping with entries itself."""
    if isinstance(node, Mapping) and node:
        for key, inner in node.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif path:
        yield path


def below(paths: Collection[str], prefix: str) -> set[str]:
    """The paths under a prefix, without it."""
    return {path.removeprefix(f"{prefix}.") for path in paths if path.startswith(f"{prefix}.")}
