"""Signatures read from source without importing it: what a `_target_` takes.

Importing torch, timm and lightning takes seconds; a misspelt argument should be known at once.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    """One argument of a callable."""

    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """The arguments of a callable by name, in order, and the module whose names its annotations use."""

    home: str
    """The module that defines the callable, whatever modules pass its name on."""
    module: "Module"
    parameters: Mapping[str, Parameter]
    takes_anything: bool


@dataclass(frozen=True)
class Module:
    """The source of one module."""

    name: str
    file: Path
    body: tuple[ast.stmt, ...]

    def find(self, name: str) -> "tuple[Module, ast.stmt] | None":
        """Where a name of this module is defined, followed through imports and `X = Y`; None if nowhere."""
        starred = []
        for statement in reversed(list(statements(self.body))):
            if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
                return self, statement
            if isinstance(statement, ast.ImportFrom):
                source = self._imported(statement)
                for alias in statement.names:
                    if alias.name == "*":
                        starred.append(source)
                    elif (alias.asname or alias.name) == name:
                        found = module(source)
                        return found.find(alias.name) if found else None
            if defines(statement, name):
                value = statement.value  # type: ignore[attr-defined]
                return self.find(value.id) if isinstance(value, ast.Name) and value.id != name else (self, statement)
        everything = (module(source) for source in starred)
        return next((it for m in everything if m is not None and (it := m.find(name)) is not None), None)

    def _imported(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        package = self.name.split(".")
        package = package[: len(package) - statement.level + (self.file.name == "__init__.py")]
        return ".".join([*package, *([statement.module] if statement.module else [])])


def statements(body: tuple[ast.stmt, ...] | list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements at the top of a module, those under `if` and `try` too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from statements(statement.body)
            yield from statements(statement.orelse)
            for handler in getattr(statement, "handlers", ()):
                yield from statements(handler.body)


def defines(statement: ast.stmt, name: str) -> bool:
    """Whether a statement is `name = …`, `name: … = …` or `type name = …`."""
    if isinstance(statement, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)
    if isinstance(statement, ast.AnnAssign):
        return isinstance(statement.target, ast.Name) and statement.target.id == name and statement.value is not None
    return type(statement).__name__ == "TypeAlias" and statement.name.id == name  # type: ignore[attr-defined]


@cache
def module(name: str) -> Module | None:
    """The module of that dotted name, None if there is no such source file."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None or (spec.submodule_search_locations is None and rest):
        return None
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    candidates = [Path(spec.origin)] if spec.origin and not rest else []
    for folder in folders if rest else ():
        path = folder.joinpath(*rest)
        candidates += [path / "__init__.py", path.with_suffix(".py")]
    file = next((c for c in candidates if c.suffix == ".py" and c.is_file()), None)
    return None if file is None else Module(name, file, tuple(ast.parse(file.read_bytes()).body))


@cache
def signature(target: str) -> Signature | None:
    """What the callable of that dotted path takes, None if there is none in that module."""
    path, _, name = target.rpartition(".")
    inside = module(path)
    found = inside.find(name) if inside else None
    if found is None:
        return None
    where, statement = found
    if isinstance(statement, ast.FunctionDef):
        return of_function(where, statement, method=False)
    if isinstance(statement, ast.ClassDef):
        return replace(of_class(where, statement), home=where.name)
    return None


def of_class(where: Module, statement: ast.ClassDef) -> Signature:
    """The arguments of a class: its own `__init__`, the fields of a dataclass, or what it inherits."""
    for inner in statement.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return of_function(where, inner, method=True)
    if any("dataclass" in ast.unparse(decorator) for decorator in statement.decorator_list):
        named = [s for s in statement.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        taken = {ast.unparse(s.target): Parameter(s.annotation, s.value is None) for s in named}
        return Signature(where.name, where, taken, False)
    for base in statement.bases:
        found = where.find(base.id) if isinstance(base, ast.Name) else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            inherited = of_class(found[0], found[1])
            if inherited.parameters or inherited.takes_anything:
                return inherited
    return Signature(where.name, where, {}, False)


def of_function(where: Module, statement: ast.FunctionDef, method: bool) -> Signature:
    """The arguments of a function, without `self` for a method."""
    arguments = statement.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    taken = {a.arg: Parameter(a.annotation, place < first_default) for place, a in enumerate(positional)}
    taken |= {
        a.arg: Parameter(a.annotation, default is None)
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    }
    if method:
        taken.pop(positional[0].arg)
    return Signature(where.name, where, taken, arguments.kwarg is not None)


def defined_in(path: str) -> list[str]:
    """Dotted paths of the classes and functions that a module defines, none if there is no such module."""
    inside = module(path)
    defined = inside.body if inside else ()
    return [f"{path}.{s.name}" for s in defined if isinstance(s, ast.ClassDef | ast.FunctionDef)]
