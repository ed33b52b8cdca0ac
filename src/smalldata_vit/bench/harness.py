"""Contenders side by side in one process: turn by turn, medians of ratios per round, and their spread."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

TIMES, SHARE = "x ", "share of "
"""Before a reference's name, in a row's further numbers: how many times its rate, and the inverse."""


@dataclass(frozen=True)
class Turn:
    """What one contender did in its turn."""

    images: float
    """Units of work; an image counts once with all its views."""
    seconds: float


@dataclass(frozen=True)
class Contender:
    """Something that can be timed.

    Arguments:
        name: in the table; the first contender of a table is what the others are compared with.
        turn: does some work and says how much in how long.
        note: shown beside the numbers.
        warms_up: whether a turn that does not count comes before the first round; processes of their own need none.
        facts: what it does, in numbers that every contender of a table should share: `same_work` compares them.
        reference: whether the ratios of all others to this one are shown too.
    """

    name: str
    turn: Callable[[], Turn]
    note: str = ""
    warms_up: bool = True
    facts: Mapping[str, float] = field(default_factory=dict)
    reference: bool = False


@dataclass(frozen=True)
class Row:
    """One contender's numbers: medians over the rounds; spreads are half the interquartile range over the median."""

    name: str
    rate: float
    """Units of work a second."""
    spread: float
    ratio: float
    """The median of this contender's rate over the first contender's in the same round."""
    ratio_spread: float
    note: str = ""
    more: dict[str, float] = field(default_factory=dict)
    """Further numbers: share of the traffic floor, for one."""


@dataclass(frozen=True)
class Table:
    """What came out of one comparison."""

    title: str
    unit: str
    clock: str
    rounds: int
    rows: list[Row]


def clock(wall: bool = False) -> tuple[Callable[[], float], str]:
    """CPU seconds of the process, which other jobs disturb little; wall clock where a GPU or more threads work."""
    if torch.cuda.is_available():
        return synchronised, "wall clock, GPU waited for"
    return (time.perf_counter, "wall clock") if wall else (time.process_time, "CPU seconds")


def synchronised() -> float:
    """Wall clock, after everything that the GPU was given is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], Any], units: float, least_seconds: float = 0.3, wall: bool = False) -> Callable[[], Turn]:
    """A turn that repeats some work until it has taken `least_seconds`."""
    now, _ = clock(wall)

    def turn() -> Turn:
        begun, times = now(), 0
        while True:
            work()
            times += 1
            taken = now() - begun
            if taken >= least_seconds:
                return Turn(times * units, taken)

    return turn


def compared(
    title: str, contenders: Sequence[Contender], rounds: int, unit: str = "images/s", wall: bool = False
) -> Table:
    """All contenders' numbers; every round begins with another contender, so that none is always the first.

    ValueError where two have the same name.
    """
    names = [contender.name for contender in contenders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{title}: two contenders are called {', '.join(twice)}; a peer needs a name of its own")
    for contender in contenders:
        if contender.warms_up:
            contender.turn()
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            turn = contender.turn()
            rates[contender.name].append(turn.images / turn.seconds)
    rows = [row(contender, contenders, rates) for contender in contenders]
    return Table(title, unit, clock(wall)[1], rounds, rows)


def row(contender: Contender, contenders: Sequence[Contender], rates: Mapping[str, Sequence[float]]) -> Row:
    """One contender's numbers out of everybody's rates, round by round."""
    own = rates[contender.name]

    def ratios(to: Contender) -> list[float]:
        return [mine / theirs for mine, theirs in zip(own, rates[to.name], strict=True)]

    first = ratios(contenders[0])
    others = [other for other in contenders if other.reference and other is not contender]
    more = dict(contender.facts) | {TIMES + other.name: statistics.median(ratios(other)) for other in others}
    medians = statistics.median(own), statistics.median(first)
    return Row(contender.name, medians[0], spread(own), medians[1], spread(first), contender.note, more)


def spread(values: Sequence[float]) -> float:
    """Half the interquartile range over the median: 0.02 is ±2 %."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / statistics.median(values)
