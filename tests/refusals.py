"""What refusals.txt says: the smallest choices that are refused whatever stands beside them, a row each.

A combination is refused exactly if a row is part of it, and with the sentence of the largest such row.
"""

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE = Path(__file__).parent / "refusals.txt"
DEFAULTS = {"dataset": "digits", "arch": "vit_digits", "method": "dino", "guidance": "none"}
GROUPS = tuple(DEFAULTS)
HEAD = """\
# What is refused, whatever else is chosen with it, and what is said: tests/refusals.py tells how a row is read.
# Made by: python tests/test_product.py, from every dataset with every arch and method, without guidance.
"""

Choices = Mapping[str, str]
"""Options by group; a group that is not there has its default."""
Part = frozenset[tuple[str, str]]
"""Some groups with an option each."""


def part_of(choices: Choices) -> Part:
    """A whole combination, the defaults too: equal combinations are equal."""
    return frozenset((DEFAULTS | dict(choices)).items())


def named(part: Part) -> str:
    """As it is typed, and as a row begins."""
    return " ".join(f"{group}={name}" for group, name in sorted(part, key=lambda word: GROUPS.index(word[0])))


@functools.cache
def listed() -> Mapping[Part, str]:
    """The rows of refusals.txt."""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    rows = [line.split(": ", 1) for line in lines]
    return {frozenset((w.partition("=")[0], w.partition("=")[2]) for w in row.split()): why for row, why in rows}


def expected(choices: Choices) -> str | None:
    """What refusals.txt says of a combination."""
    whole = part_of(choices)
    rows = [row for row in listed() if row <= whole]
    return listed()[max(rows, key=len)] if rows else None


def smallest(ends: Mapping[Part, str | None]) -> dict[Part, str]:
    """The rows that say how these whole combinations end: with a sentence, or None for what runs."""
    said = defaultdict[Part, set[str | None]](set)
    for whole, end in ends.items():
        for part in parts(whole):
            said[part].add(end)
    rows: dict[Part, str] = {}
    for part in sorted(said, key=lambda part: (len(part), named(part))):
        end = next(iter(said[part]))
        if len(said[part]) == 1 and end is not None and not any(row < part for row in rows):
            rows[part] = end
    return rows


def parts(whole: Part) -> Iterator[Part]:
    """Every choice of some of its groups."""
    for size in range(1, len(whole) + 1):
        yield from map(frozenset, itertools.combinations(whole, size))


def write(rows: Mapping[Part, str]) -> None:
    """Make them what refusals.txt says."""
    lines = [f"{named(part)}: {why}\n" for part, why in rows.items()]
    FILE.write_text(HEAD + "".join(sorted(lines)))
