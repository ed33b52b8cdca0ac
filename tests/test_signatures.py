"""Signatures read from source say what the imported objects say, and values are held against them."""

import ast
import importlib
import inspect

import pytest

from smalldata_vit import config
from smalldata_vit.annotations import fits
from smalldata_vit.checks import THIRD_PARTY
from smalldata_vit.signatures import module, signature


def targets() -> list[str]:
    """Every `_target_` in conf/."""
    words = " ".join(file.read_text() for file in config.CONF.glob("*/*.yaml")).split()
    named = {words[place + 1].strip(",}") for place, word in enumerate(words) if word.strip("{") == "_target_:"}
    return sorted(named | THIRD_PARTY)


@pytest.mark.parametrize("target", targets())
def test_a_signature_read_from_source_is_that_of_the_imported_object(target: str) -> None:
    path, _, name = target.rpartition(".")
    taken = signature(target)
    assert taken is not None
    found = inspect.signature(getattr(importlib.import_module(path), name)).parameters.values()
    named = {p.name: p.default is p.empty for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    assert {key: parameter.required for key, parameter in taken.parameters.items()} == named
    assert taken.takes_anything == any(p.kind is p.VAR_KEYWORD for p in found)


@pytest.mark.parametrize(
    "target", ["smalldata_vit.nothing.X", "smalldata_vit.schedules.Nothing", "nothing.at.all", "os"]
)
def test_what_does_not_exist_has_no_signature(target: str) -> None:
    assert signature(target) is None


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        ("int", [1, 0], [1.0, "1", True, None, [1]]),
        ("float", [1, 0.5], ["1", True, None]),
        ("bool", [True], [1, "true", "no", None]),
        ("str", ["a"], [1, None, ["a"]]),
        ("int | None", [1, None], ["None", 1.5]),
        ("Optional[float]", [1, None], ["x"]),
        ("Union[int, str]", [1, "x"], [None, 1.5]),
        ("Literal['a', 'b']", ["a"], ["c", None, 1]),
        ("Decays", ["all", "matrices"], ["some", True]),
        ("Sequence[float]", [[1, 0.5], []], [1, ["x"], "ab"]),
        ("tuple[float, float]", [[1, 2]], [[1], [1, 2, 3], 1]),
        ("tuple[int, ...]", [[1, 2, 3]], [["a"]]),
        ("Mapping[str, int]", [{"a": 1}], [[1], 1]),
        ("Callable[..., int]", [{"_target_": "x"}], [1, "x"]),
        ("Schedule", [{"_target_": "x"}], [0.9, "Cosine", None]),
        ("Schedule | float", [{"_target_": "x"}, 0.9], ["Cosine"]),
        ("Unknown", [1, "x", None], []),
        ("'int'", [1], ["x"]),
    ],
)
def test_values_fit_what_an_annotation_says(annotation: str, right: list, wrong: list) -> None:
    where = module("smalldata_vit.optimization")
    assert where is not None
    expression = ast.parse(annotation, mode="eval").body
    assert [value for value in right if not fits(value, expression, where)] == []
    assert [value for value in wrong if fits(value, expression, where)] == []
