"""Every option of every stage, and every plan, composes and passes the check; every YAML begins with what it is.

The options of the root are looked at in test_product.
"""

import itertools
from pathlib import Path

import pytest

from smalldata_vit import config
from smalldata_vit.schema import OWN, STAGES

FILES = sorted(config.CONF.glob("*/*.yaml"))
OWN_OPTIONS = {group: config.options(group) for group in OWN}
ROWS = range(max(map(len, OWN_OPTIONS.values())))
METHODS, DATASETS = config.options("method"), config.options("dataset")
QUICK = {(METHODS[place % len(METHODS)], dataset) for place, dataset in enumerate(DATASETS)}
QUICK |= {(m, d) for m in METHODS for d in DATASETS if f"{m}_{d}" in config.options("plan")}
"""Every dataset once, and every plan that is for one dataset alone; the other pairs are slow."""
PLANNED = [
    pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
    for pair in itertools.product(METHODS, DATASETS)
]


@pytest.mark.parametrize("row", ROWS)
def test_every_option_of_every_stage_composes_and_passes_the_check(row: int) -> None:
    """A row has an option of each group, and every stage chooses it: composing takes half a second."""
    chosen = {group: names[row % len(names)] for group, names in OWN_OPTIONS.items()}
    words = {group: f"[{name}]" if group == "evaluator" else name for group, name in chosen.items()}
    cfg = config.compose([f"{stage}.{group}={word}" for stage in STAGES for group, word in words.items()])
    for stage in STAGES:
        assert list(cfg[stage].evaluator) == [chosen["evaluator"]]
        for group in ("views", "optimization"):
            assert cfg.chosen[f"{group}@{stage}.{group}"] == chosen[group]
    config.check(cfg)


@pytest.mark.parametrize(("method", "dataset"), PLANNED)
def test_every_method_has_a_plan_on_every_dataset(method: str, dataset: str) -> None:
    cfg = config.compose([f"method={method}", f"dataset={dataset}"])
    config.check(cfg)
    assert cfg.chosen["plan"] in config.options("plan")
    for stage in cfg.stages:
        assert cfg[stage].epochs is not None or cfg[stage].steps is not None


@pytest.mark.parametrize("name", config.options("experiment"))
def test_every_experiment_composes_and_passes_the_check(name: str) -> None:
    config.check(config.compose([f"experiment={name}"]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_begins_by_saying_what_it_is(file: Path) -> None:
    first, *rest = file.read_text().splitlines()
    assert first.startswith("# ")
    assert not first.startswith("# @package") or rest[0].startswith("# ")
