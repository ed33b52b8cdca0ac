"""Whether a plain value from a config can be what an annotation, read from source, says."""

import ast
from collections.abc import Mapping
from typing import Any

from smalldata_vit.signatures import Module

SEQUENCES = frozenset({"Sequence", "list", "List", "tuple", "Tuple", "Iterable"})
MAPPINGS = frozenset({"Mapping", "dict", "Dict"})
PLAIN: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "Path": (str,)}


def fits(value: Any, annotation: ast.expr | None, where: Module) -> bool:
    """Whether a plain value of a config can be what an annotation says; True where that cannot be told."""
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            return fits(value, ast.parse(annotation.value, mode="eval").body, where)
        return annotation.value is not None or value is None
    if isinstance(annotation, ast.BinOp):
        return fits(value, annotation.left, where) or fits(value, annotation.right, where)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if isinstance(annotation, ast.Name):
        return _fits_name(value, annotation.id, where)
    if isinstance(annotation, ast.Subscript):
        return _fits_subscript(value, annotation, where)
    return True


def _fits_name(value: Any, name: str, where: Module) -> bool:
    if name in PLAIN:
        return isinstance(value, PLAIN[name]) and not isinstance(value, bool)
    if name == "bool":
        return isinstance(value, bool)
    if name in SEQUENCES:
        return isinstance(value, list)
    if name in MAPPINGS:
        return isinstance(value, Mapping)
    if name == "Callable":
        return False
    found = where.find(name)
    if found is None:
        return True
    module_of_it, statement = found
    if isinstance(statement, ast.ClassDef):
        return False
    return fits(value, getattr(statement, "value", None), module_of_it)


def _fits_subscript(value: Any, annotation: ast.Subscript, where: Module) -> bool:
    name = ast.unparse(annotation.value).rpartition(".")[2]
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if name == "Literal":
        return any(type(value) is type(v) and value == v for v in (ast.literal_eval(element) for element in inner))
    if name == "Optional":
        return value is None or fits(value, inner[0], where)
    if name == "Union":
        return any(fits(value, element, where) for element in inner)
    if name in SEQUENCES:
        if not isinstance(value, list):
            return False
        if name in ("tuple", "Tuple") and ast.unparse(inner[-1]) != "...":
            return len(value) == len(inner) and all(fits(v, e, where) for v, e in zip(value, inner, strict=True))
        return all(fits(v, inner[0], where) for v in value)
    if name in MAPPINGS:
        return isinstance(value, Mapping)
    return name != "Callable"
