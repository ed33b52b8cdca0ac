"""Every choice with every other: it composes, passes the check, is built without memory and runs a forward at every
view size, guided where it is guided; or it is refused with the numbers.

What is refused stands in refusals.txt, so that none comes unseen.
"""

import functools
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from refusals import DEFAULTS, GROUPS, Choices, Part, expected, listed, named, part_of, smallest, write
from torch import Tensor

from smalldata_vit import config
from smalldata_vit.contracts import Batch, DataFacts
from smalldata_vit.schedules import Progress

OTHERS = ("views", "evaluator", "optimization", "trainer", "logger")
GIVEN = {"folder": ("dataset.root=photographs", "dataset.num_classes=3", "dataset.image_size=32")}
"""What an option cannot be composed without."""


def check(choices: Choices) -> str | None:
    """None if every stage of a combination runs, else why it is refused."""
    return checked(named(part_of(choices)))


@functools.cache
def checked(typed: str) -> str | None:
    names = [word.partition("=")[2] for word in typed.split()]
    try:
        cfg = config.compose([*typed.split(), *(word for name in names for word in GIVEN.get(name, ()))])
        config.check(cfg)
        for stage in cfg.stages:
            forward(json.dumps(needed(config.stage_config(cfg, stage)), sort_keys=True))
    except (config.ConfigError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def needed(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What a forward depends on: of the dataset the size of its images alone, of guidance not its weight over time.

    With weight 0 both networks and what lies between them are built, but the guide is not run: autocast, which it
    switches off, does not know the meta device.
    """
    kept = {name: stage[name] for name in ("image_size", "views", "arch", "method", "reads_labels")}
    never = {"_target_": "smalldata_vit.schedules.Constant", "value": 0.0}
    guidance = stage["guidance"] and stage["guidance"] | {"weight": never, "controller": None}
    return kept | ({"guidance": guidance} if guidance else {})


@functools.cache
def forward(stage: str) -> None:
    """Build a stage's method on the meta device and send two images through every group of views.

    Kept, so that combinations whose forward is the same share it; what raises is tried again.
    """
    of = json.loads(stage)
    facts = DataFacts(20, 3, of["image_size"], (0.5,) * 3, (0.25,) * 3)
    made, boxes, flips = seen(json.dumps(of["views"]), of["image_size"])
    with torch.device("meta"):
        parts = {"backbone": instantiate(of["arch"], _convert_="all"), "facts": facts}
        if "guidance" in of:
            parts["guidance"] = instantiate(of["guidance"], _convert_="all")
        method = instantiate(of["method"], _convert_="all")(**parts)
        label = torch.empty(2, dtype=torch.int64)
        loss = method(Batch(made, boxes, flips, label, label, 0), Progress(0, 10, 5))
    assert loss.total.shape == ()
    assert method.reads_labels == bool(of["reads_labels"])
    assert ("guidance" in of) == any(name.startswith("guid") for name in loss.terms)


@functools.cache
def seen(views: str, size: int) -> tuple[list[Tensor], ...]:
    """Views, boxes and flips of two images, without their numbers."""
    make = instantiate(json.loads(views), _convert_="all")(
        image_size=size, dataset_mean=(0.5,) * 3, dataset_std=(0.25,) * 3
    )
    sides = torch.full((2,), size)
    made = make(torch.zeros(2, 3, size, size, dtype=torch.uint8), make.draw(0, 0, sides, sides))
    return tuple([part.to("meta") for part in group] for group in made)


def wrong(combinations: Iterable[Choices]) -> dict[str, tuple[str | None, str | None]]:
    """Combinations that end otherwise than refusals.txt says: how they end, and what stands there."""
    found = {named(part_of(choices)): (check(choices), expected(choices)) for choices in combinations}
    return {name: ends for name, ends in found.items() if ends[0] != ends[1]}


def crossed() -> Iterator[Choices]:
    """Combinations in which every two options of different groups meet, and every row of refusals.txt is met.

    Every dataset meets every arch. The other two are chosen so that the most pairs meet for the first time; in what is
    refused nothing else has been looked at.
    """
    options = {group: config.options(group) for group in GROUPS}
    groups = itertools.combinations(GROUPS, 2)
    missing = {frozenset([(g, a), (h, b)]) for g, h in groups for a in options[g] for b in options[h]}

    def meet(choices: Choices) -> set[Part]:
        pairs = {frozenset(two) for two in itertools.combinations(choices.items(), 2)} & missing
        return pairs if expected(choices) is None else pairs & listed().keys()

    for dataset, arch in itertools.product(options["dataset"], options["arch"]):
        rest = itertools.product(options["method"], options["guidance"])
        chosen = max(
            (dict(zip(GROUPS, (dataset, arch, *two), strict=True)) for two in rest),
            key=lambda choices: len(meet(choices)),
        )
        missing -= meet(chosen)
        yield chosen
    yield from (DEFAULTS | dict(part) for part in sorted({*missing, *listed()}, key=named))


def product(groups: tuple[str, ...], some: int | None = None) -> list[Choices]:
    """All combinations of some groups, or `some` of them, the same every time."""
    names = list(itertools.product(*(config.options(group) for group in groups)))
    chosen = names if some is None else random.Random(0).sample(names, min(some, len(names)))
    return [dict(zip(groups, each, strict=True)) for each in chosen]


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_runs_with_the_defaults_of_the_others_or_is_refused_as_listed(group: str) -> None:
    assert wrong({group: name} for name in config.options(group)) == {}


def test_every_option_of_the_other_groups_composes_and_passes_the_check() -> None:
    columns = [config.options(group) for group in OTHERS]
    for row in range(max(map(len, columns))):
        chosen = {group: names[row % len(names)] for group, names in zip(OTHERS, columns, strict=True)}
        config.check(
            config.compose([f"{g}=[{n}]" if g in ("evaluator", "logger") else f"{g}={n}" for g, n in chosen.items()])
        )


def test_some_combinations_run_or_are_refused_as_listed() -> None:
    assert wrong(random.Random(1).sample(list(crossed()), 12)) == {}


@pytest.mark.slow
def test_all_pairs_run_or_are_refused_as_listed() -> None:
    assert wrong(crossed()) == {}


@pytest.mark.slow
def test_two_hundred_triples_run_or_are_refused_as_listed() -> None:
    assert wrong(product(GROUPS[:3], 200)) == {}


@pytest.mark.slow
def test_two_thousand_of_the_whole_product_run_or_are_refused_as_listed() -> None:
    assert wrong(product(GROUPS, 2000)) == {}


def test_a_refusal_names_the_numbers() -> None:
    assert [why for why in listed().values() if not any(letter.isdigit() for letter in why)] == []


def test_no_row_is_without_use_and_none_could_be_smaller() -> None:
    assert smallest({part_of(choices): expected(choices) for choices in product(GROUPS)}) == listed()


if __name__ == "__main__":
    write(smallest({frozenset(choices.items()): check(choices) for choices in product(GROUPS[:3])}))
