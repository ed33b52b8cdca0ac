"""What is read from option files without Hydra is what Hydra makes of them."""

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from smalldata_vit import composition, config
from smalldata_vit.composition import choices_of, option, root_choices
from smalldata_vit.hydra_files import hydra_at, read_yaml
from smalldata_vit.schema import INHERITED

FIRST_EXPERIMENT = next(iter(config.options("experiment")), None)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["method=supervised", "dataset=cifar10", "method=idmm"],
        ["arch=deit_tiny", "dataset@pretrain.dataset=pets", "guidance=constant", "logger=[csv,wandb]"],
        ["plan=supervised_transfer"],
        ["dataset='cifar10'"],
        *([[f"experiment={FIRST_EXPERIMENT}"]] if FIRST_EXPERIMENT else []),
    ],
    ids=" ".join,
)
def test_what_decides_the_plan_is_settled_as_hydra_settles_it(words: list[str]) -> None:
    found, hydras = root_choices(words), choices_of(words)
    assert {key: hydras[key] for key in ("method", "dataset", "experiment", "plan")} == {
        key: found[key] for key in ("method", "dataset", "experiment", "plan")
    }


def test_plain_words_are_settled_without_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "choices_of", None)
    assert root_choices(["method=supervised", "arch=vit_gani"])["method"] == "supervised"


def test_nothing_but_plans_experiments_and_flavours_chooses_other_options() -> None:
    others = [
        file
        for file in config.CONF.rglob("*.yaml")
        if file.relative_to(config.CONF).parts[0] not in ("plan", "experiment", "flavour", "config.yaml")
    ]
    assert len(others) > 50
    assert [file for file in others if "defaults" in read_yaml(file)] == []


@pytest.mark.parametrize("group", INHERITED)
def test_an_option_is_read_as_hydra_composes_it(group: str) -> None:
    for name in config.options(group)[:3]:
        with hydra_at(config.CONF):
            composed = OmegaConf.to_container(hydra_compose(f"{group}/{name}"), resolve=False)
        assert option(group, name) == (composed[group] if set(composed) == {group} else composed)


def test_a_number_is_what_omegaconf_takes_for_one(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1e-3\nb: 'yes'\nc: on\n# a comment\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": 0.001, "b": "yes", "c": True}
    (tmp_path / "y.yaml").write_text("# a comment alone\n")
    assert read_yaml(tmp_path / "y.yaml") == {}
