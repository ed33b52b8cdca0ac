"""Every choice with every other: it composes, passes the check, is built without memory and runs a forward at every
view size, or is refused with the numbers. What is refused stands in `refusals.txt`, so that none comes unseen."""

import functools
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from smalldata_vit import config
from smalldata_vit.contracts import Batch, DataFacts
from smalldata_vit.schedules import Progress

REFUSALS = Path(__file__).parent / "refusals.txt"
GROUPS = ("dataset", "arch", "method", "guidance")
DEFAULTS = {"dataset": "digits", "arch": "vit_digits", "method": "dino", "guidance": "none"}
OTHERS = ("views", "evaluator", "optimization", "trainer", "logger")
GIVEN = {"folder": ("dataset.root=photographs", "dataset.num_classes=3", "dataset.image_size=32")}
"""What an option cannot be composed without."""


def words_for(choices: dict[str, str]) -> list[str]:
    words = [f"{group}={name}" for group, name in choices.items()]
    return words + [word for name in choices.values() for word in GIVEN.get(name, ())]


def named(choices: dict[str, str]) -> str:
    """All groups of a combination, the defaults too: equal combinations have equal names."""
    return " ".join(f"{group}={name}" for group, name in (DEFAULTS | choices).items())


@functools.cache
def check(name: str) -> str | None:
    """None if every stage of a named combination runs, else why it is refused."""
    choices = dict(word.split("=") for word in name.split())
    try:
        cfg = config.compose(words_for(choices))
        config.check(cfg)
        for stage in cfg.stages:
            forward_once(json.dumps(needed(config.stage_config(cfg, stage)), sort_keys=True))
    except (config.ConfigError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def needed(stage: dict[str, object]) -> dict[str, object]:
    """What a forward depends on: of the dataset the size of its images alone."""
    kept = ("image_size", "views", "arch", "method", "reads_labels")
    return {name: stage[name] for name in kept}


@functools.cache
def forward_once(stage: str) -> None:
    """Datasets with equally large images share a forward."""
    forward(json.loads(stage))


def forward(stage: dict[str, object]) -> None:
    """Build the stage's method on the meta device and send two images through every group of views."""
    size = int(stage["image_size"])  # type: ignore[call-overload]
    facts = DataFacts(20, 3, size, (0.5,) * 3, (0.25,) * 3)
    views = instantiate(stage["views"], _convert_="all")(
        image_size=size, dataset_mean=facts.mean, dataset_std=facts.std
    )
    pictures = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    sides = torch.full((2,), size)
    made, boxes, flips = views(pictures, views.draw(0, 0, sides, sides))
    with torch.device("meta"):
        backbone = instantiate(stage["arch"], _convert_="all")
        method = instantiate(stage["method"], _convert_="all")(backbone=backbone, facts=facts)

        def meta(group: Tensor) -> Tensor:
            return torch.empty(group.shape, dtype=group.dtype)

        label = torch.empty(2, dtype=torch.int64)
        batch = Batch([meta(v) for v in made], [meta(b) for b in boxes], [meta(f) for f in flips], label, label, 0)
        loss = method(batch, Progress(0, 10, 5))
    assert loss.total.shape == ()
    assert method.reads_labels == bool(stage["reads_labels"])


def pairs() -> Iterator[dict[str, str]]:
    for one, other in (("dataset", "arch"), ("arch", "method"), ("method", "guidance")):
        for first, second in itertools.product(config.options(one), config.options(other)):
            yield {one: first, other: second}


def triples(n: int) -> list[dict[str, str]]:
    whole = list(itertools.product(*(config.options(group) for group in GROUPS[:3])))
    chosen = random.Random(0).sample(whole, min(n, len(whole)))
    return [dict(zip(GROUPS, names, strict=False)) for names in chosen]


def refused(combinations: list[dict[str, str]]) -> dict[str, str]:
    found = {name: check(name) for name in map(named, combinations)}
    return {name: why for name, why in found.items() if why is not None}


def listed() -> dict[str, str]:
    lines = [line for line in REFUSALS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


def assert_as_listed(combinations: list[dict[str, str]]) -> None:
    names = {named(choices) for choices in combinations}
    expected = {name: why for name, why in listed().items() if name in names}
    assert refused(combinations) == expected


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_runs_with_the_defaults_of_the_others_or_is_refused_as_listed(group: str) -> None:
    assert_as_listed([{group: name} for name in config.options(group)])


@pytest.mark.parametrize("group", OTHERS)
def test_every_option_of_the_other_groups_composes_and_passes_the_check(group: str) -> None:
    for name in config.options(group):
        words = [f"{group}=[{name}]"] if group in ("evaluator", "logger") else [f"{group}={name}"]
        config.check(config.compose(words))


def test_some_pairs_and_triples_run_or_are_refused_as_listed() -> None:
    some = random.Random(1).sample(list(pairs()), 40)
    assert_as_listed([*some, *triples(15)])


@pytest.mark.slow
def test_all_pairs_run_or_are_refused_as_listed() -> None:
    assert_as_listed(list(pairs()))


@pytest.mark.slow
def test_two_hundred_triples_run_or_are_refused_as_listed() -> None:
    assert_as_listed(triples(200))


@pytest.mark.slow
def test_the_whole_product_runs_or_is_refused_as_listed() -> None:
    whole = itertools.product(*(config.options(group) for group in GROUPS))
    assert_as_listed([dict(zip(GROUPS, names, strict=True)) for names in whole])


def test_a_refusal_names_the_numbers() -> None:
    without = [name for name, why in listed().items() if not any(letter.isdigit() for letter in why)]
    assert without == []
