"""What a search varies: Hydra's own grammar for several values, read as Optuna's distributions."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from smalldata_vit import checks, composition
from smalldata_vit.overrides import parse
from smalldata_vit.words import ConfigError, parts, rewrite

DIGITS = 4
"""Significant digits of a number from an interval: what is typed, stored and proposed is one and the same."""

GRAMMAR = "choice(a,b), range(1,5), interval(0.1,0.5), tag(log,interval(1e-5,1e-2)) or int(interval(1,9))"


@dataclass(frozen=True)
class Space:
    """Every key that varies, with what it may be."""

    distributions: Mapping[str, BaseDistribution]

    @property
    def size(self) -> float:
        """How many combinations there are; infinite where a number varies continuously."""
        return math.prod(size_of(one) for one in self.distributions.values())

    def words(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides that set these values."""
        return [f"{key}={params[key]}" for key in self.distributions]

    def first(self) -> dict[str, Any]:
        """One combination: the lowest numbers and first choices."""
        return {key: next(values(one)) for key, one in self.distributions.items()}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """All of them, where there are finitely many."""
        for chosen in itertools.product(*(list(values(one)) for one in self.distributions.values())):
            yield dict(zip(self.distributions, chosen, strict=True))


def space_of(name: str | None, swept: Sequence[str], fixed: Sequence[str]) -> tuple[Space, list[str] | None]:
    """The space of a file and of typed words, which beat the file's, and the file's objective.

    A key that was typed with one value does not vary. ConfigError for what no search can vary, and for an empty space.
    """
    listed, objective = ([], None) if name is None else written(name)
    single = {parts(word)[1] for word in rewrite(fixed)}
    found: dict[str, BaseDistribution] = {}
    for word in [*listed, *swept]:
        [rewritten] = rewrite([word])
        [override] = parse([rewritten])
        if override.key_or_group not in single and parts(rewritten)[1] not in single:
            found[override.get_key_element()] = distribution(word, override)
    if not found:
        raise ConfigError(
            f"nothing varies: name a space, hydra.sweeper.space={'|'.join(composition.options('search'))}, "
            f"or give a key several values: {GRAMMAR}"
        )
    return Space(found), objective


def written(name: str) -> tuple[list[str], list[str] | None]:
    """The words and the objective of conf/search/<name>.yaml; ConfigError naming what is wrong with it."""
    known = composition.options("search")
    if name not in known:
        there = ", ".join(known)
        raise ConfigError(
            f"hydra.sweeper.space={name}: there is no such file{checks.suggestion(name, known)} There are {there}"
        )
    file = composition.CONF / "search" / f"{name}.yaml"
    held = yaml.safe_load(file.read_text())
    if not isinstance(held, dict) or not set(held) <= {"objective", "space"} or not isinstance(held.get("space"), dict):
        raise ConfigError(
            f"{shown(file)}: it holds space, a key and what it may be on each line, and at most objective"
        )
    return [f"{key}={value}" for key, value in held["space"].items()], held.get("objective")


def shown(file: Path) -> str:
    """A file of conf/ as people know it."""
    return str(file.relative_to(composition.CONF.parent))


def distribution(word: str, override: Override) -> BaseDistribution:
    """What Optuna draws from for one word; ConfigError for a word that has one value or an impossible span."""
    asked: Any = override._value
    if isinstance(asked, Glob):
        return CategoricalDistribution(matching(word, asked, override))
    if isinstance(asked, ChoiceSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if isinstance(asked, RangeSweep):
        return steps(word, list(asked.range()))
    if not isinstance(asked, IntervalSweep):
        raise ConfigError(f"{word}: it has one value, so there is nothing to search. Several are {GRAMMAR}")
    low, high, log = asked.start, asked.end, "log" in asked.tags
    if low is None or high is None or low >= high or (log and low <= 0):
        raise ConfigError(f"{word}: an interval goes from a lower to a higher number, above 0 with tag(log,…)")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def matching(word: str, asked: Glob, override: Override) -> list[str]:
    """The options of a group that a glob means; ConfigError if there are none."""
    found = asked.filter(composition.options(override.key_or_group))
    if not found:
        raise ConfigError(f"{word}: no option of {override.key_or_group} is like that")
    return found


def steps(word: str, listed: Sequence[float]) -> BaseDistribution:
    """Equally spaced numbers; ConfigError for none."""
    if not listed:
        raise ConfigError(f"{word}: this range is empty; its end is not part of it")
    step = abs(listed[1] - listed[0]) if len(listed) > 1 else 1
    if all(isinstance(value, int) for value in listed):
        return IntDistribution(int(min(listed)), int(max(listed)), step=int(step))
    return FloatDistribution(exact(min(listed)), exact(max(listed)), step=exact(step))


def exact(number: float) -> float:
    """A number of a range without what adding up steps left behind its digits: 0.30000000000000004 is 0.3."""
    return float(f"{number:.10g}")


def values(one: BaseDistribution) -> Iterator[Any]:
    """What a key may be, in order; of an interval its lower end alone."""
    if isinstance(one, CategoricalDistribution):
        yield from one.choices
    elif isinstance(one, IntDistribution):
        yield from range(one.low, one.high + 1, one.step)
    elif isinstance(one, FloatDistribution):
        yield from (rounded(one.low + n * (one.step or 0.0), one) for n in range(int(size_of(one)) if one.step else 1))


def size_of(one: BaseDistribution) -> float:
    """How many values there are."""
    if isinstance(one, CategoricalDistribution):
        return len(one.choices)
    if isinstance(one, IntDistribution):
        return (one.high - one.low) // one.step + 1
    assert isinstance(one, FloatDistribution)
    if one.single():
        return 1
    return math.inf if one.step is None else round((one.high - one.low) / one.step) + 1


def rounded(value: Any, one: BaseDistribution) -> Any:
    """A value as it is typed: a number that is not whole with few digits, within its bounds."""
    if not isinstance(one, FloatDistribution):
        return value
    if one.step is not None:
        return min(max(exact(value), one.low), one.high)
    return min(max(float(f"{value:.{DIGITS}g}"), one.low), one.high)
