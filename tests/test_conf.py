"""Every option of every group, and every plan, composes and passes the check; every YAML begins with what it is."""

from pathlib import Path

import pytest

from smalldata_vit import config
from smalldata_vit.schema import INHERITED, OWN, STAGES

FILES = sorted(config.CONF.glob("*/*.yaml"))
OPTIONS = [(group, name) for group in (*INHERITED, "trainer", "logger") for name in config.options(group)]
OWN_OPTIONS = [(stage, group, name) for stage in STAGES for group in OWN for name in config.options(group)]


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_of_the_root_composes_and_passes_the_check(group: str, name: str) -> None:
    config.check(config.compose([f"{group}={name}"]))


@pytest.mark.parametrize(("stage", "group", "name"), OWN_OPTIONS)
def test_every_option_of_a_stage_composes_and_passes_the_check(stage: str, group: str, name: str) -> None:
    word = f"{stage}.{group}=[{name}]" if group == "evaluator" else f"{stage}.{group}={name}"
    cfg = config.compose([word])
    if group == "evaluator":
        assert list(cfg[stage].evaluator) == [name]
    else:
        assert cfg.chosen[f"{group}@{stage}.{group}"] == name
    config.check(cfg)


@pytest.mark.parametrize("dataset", config.options("dataset"))
@pytest.mark.parametrize("method", config.options("method"))
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
