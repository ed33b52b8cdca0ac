"""Single values in trees of mappings and lists: where two trees differ, and a tree with another value in places."""

from collections.abc import Iterator, Sequence
from typing import Any

Value = bool | int | float | str
Path = tuple[str | int, ...]
"""Names and places on the way to a leaf."""


def differing(one: Any, other: Any, path: Path = ()) -> Iterator[Path]:
    """The paths at which two trees of mappings and lists are not the same."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differing(one[key], other[key], (*path, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differing(mine, theirs, (*path, place))
    elif type(one) is not type(other) or one != other:
        yield path


def _leaf(value: Value, like: Any) -> Value:
    """A value as the config holds it: an integer where real numbers belong becomes one."""
    return float(value) if type(like) is float and type(value) is int else value


def _at(tree: Any, path: Path) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def holds(tree: Any, path: Path, value: Value) -> bool:
    """Whether a tree has just this value at a path."""
    held = _at(tree, path)
    return type(held) is type(_leaf(value, held)) and bool(held == _leaf(value, held))


def put(tree: dict[str, Any], places: Sequence[Path], value: Value) -> dict[str, Any]:
    """A tree with another value at some paths; what did not change is shared with the original."""
    for path in places:
        tree = _with(tree, path, _leaf(value, _at(tree, path)))
    return tree


def _with(tree: Any, path: Path, value: Value) -> Any:
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = value if len(path) == 1 else _with(copy[path[0]], path[1:], value)
    return copy
