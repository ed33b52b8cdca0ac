"""What an experiment's file may set, what it beats, and what in it is refused."""

import shutil
from pathlib import Path

import pytest

from smalldata_vit import composition, config

BEGIN = "# @package _global_\n# A note.\n"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ to which a test adds experiments."""
    folder = tmp_path / "conf"
    shutil.copytree(config.CONF, folder)
    (folder / "experiment").mkdir(exist_ok=True)
    monkeypatch.setattr(composition, "CONF", folder)
    return folder


def written(conf: Path, text: str) -> list[str]:
    """The words that choose an experiment with this text."""
    (conf / "experiment" / "x.yaml").write_text(BEGIN + text)
    return ["experiment=x"]


def refused(*words: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.check(config.compose(words))
    return str(caught.value)


def test_an_experiment_beats_the_plan_and_the_command_line_beats_the_experiment(conf: Path) -> None:
    words = written(conf, "pretrain: {steps: 7, batch_size: 9}\n")
    cfg = config.compose([*words, "pretrain.batch_size=11"])
    assert (cfg.pretrain.steps, cfg.pretrain.batch_size) == (7, 11)


def test_an_experiment_chooses_options_and_so_the_plan(conf: Path) -> None:
    words = written(
        conf,
        "defaults:\n  - override /method: supervised\n  - override /dataset: cifar10\n"
        "  - override /views@finetune.views: plain\n",
    )
    cfg = config.compose(words)
    assert (cfg.chosen["plan"], cfg.chosen["views@finetune.views"]) == ("supervised", "plain")
    assert config.compose([*words, "dataset=digits"]).chosen["plan"] == "supervised_digits"
    assert config.compose([*words, "views=one_crop"]).chosen["views@finetune.views"] == "one_crop"


def test_what_an_experiment_sets_at_the_root_reaches_the_stages(conf: Path) -> None:
    cfg = config.compose(
        written(
            conf,
            "dataset: {labels_per_class: 3}\narch: {depth: 2}\nimage_size: 16\n"
            "finetune: {dataset: {labels_per_class: 10}, arch: {depth: 4}}\n",
        )
    )
    assert (cfg.pretrain.dataset.labels_per_class, cfg.pretrain.arch.depth) == (3, 2)
    assert (cfg.finetune.dataset.labels_per_class, cfg.finetune.arch.depth) == (10, 4)
    assert cfg.pretrain.arch.image_size == cfg.finetune.image_size == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pretrain: {epoch: 3}\n", "Key 'epoch' not in 'Stage'"),
        ("pretrian: {epochs: 3}\n", "pretrian"),
        ("pretrain: {epochs: many}\n", "many"),
        ("pretrain: {dataset: flowers102}\n", "a subtree belongs there"),
        ("pretrain: {optimization: {lrr: 3}}\n", "takes no lrr. Did you mean lr?"),
        ("pretrain: {optimization: {schedule: {peek: 3}}}\n", "Did you mean peak?"),
        ("trainer: {lightning: {max_epochs: 3}}\n", "<stage>.epochs="),
        ("finetune: {start_from: {stage: pretrian, head: new}}\n", "Did you mean pretrain?"),
        ("defaults:\n  - override /dataset: cifr10\n", "cifr10"),
        ("pretrain:\n  image_size: ${nothing}\n", "nothing"),
        ("pretrain: {epochs: 3\n", "x.yaml"),
        ("pretrain: {learner: {_target_: os.system}}\n", "is not allowed"),
    ],
)
def test_a_mistake_in_a_file_is_refused_in_words(conf: Path, text: str, said: str) -> None:
    assert said in refused(*written(conf, text))


def flavoured(conf: Path) -> None:
    """A published system called paper, whose experiment has two flavours."""
    for folder, name, text in (
        ("experiment", "row", "defaults:\n  - override /dataset: cifar10\nfinetune: {epochs: 9, batch_size: 17}\n"),
        ("flavour", "fixed", "finetune: {epochs: 2}\n"),
        ("flavour", "faithful", "defaults:\n  - override /views@finetune.views: plain\ndataset: {validation: none}\n"),
    ):
        (conf / folder / "paper").mkdir(exist_ok=True)
        (conf / folder / "paper" / f"{name}.yaml").write_text(BEGIN + text)


def test_a_flavour_beats_its_experiment_and_the_sober_one_is_taken_unasked(conf: Path) -> None:
    flavoured(conf)
    cfg = config.compose(["experiment=paper/row"])
    assert (cfg.chosen["flavour"], cfg.finetune.epochs, cfg.finetune.batch_size) == ("paper/fixed", 2, 17)
    faithful = config.compose(["experiment=paper/row", "flavour=faithful"])
    assert (faithful.finetune.epochs, faithful.chosen["views@finetune.views"]) == (9, "plain")
    assert faithful.pretrain.dataset.validation == "none", "what a flavour sets at the root reaches the stages"
    assert config.compose(["experiment=paper/row", "finetune.epochs=5"]).finetune.epochs == 5


def test_a_flavour_of_what_has_none_is_refused_with_those_that_have(conf: Path) -> None:
    flavoured(conf)
    words = written(conf, "finetune: {epochs: 3}\n")
    assert "experiment=x has no flavours; the experiments of" in refused(*words, "flavour=faithful")
    assert "paper" in refused("flavour=faithful")
    assert "flavour has no option sober" in refused("experiment=paper/row", "flavour=sober")


def test_what_a_plan_brings_in_says_of_a_stage_stands_beside_what_an_experiment_says_at_the_root(conf: Path) -> None:
    (conf / "plan" / "inner.yaml").write_text(BEGIN + "stages: [pretrain]\npretrain: {image_size: 24, steps: 3}\n")
    (conf / "plan" / "outer.yaml").write_text(BEGIN + "defaults:\n  - inner\n  - _self_\n")
    words = written(conf, "defaults:\n  - override /plan: outer\nimage_size: 16\n")
    cfg = config.compose(words)
    assert (cfg.pretrain.image_size, cfg.finetune.image_size) == (24, 16)
