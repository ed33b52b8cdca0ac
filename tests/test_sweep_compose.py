"""The jobs of a sweep are what their own commands compose, though a thousand of them are composed in two steps."""

from itertools import product
from pathlib import Path

import pytest

from smalldata_vit import config, sweep_compose
from smalldata_vit.sweep_compose import Composer, in_full
from smalldata_vit.sweep_values import differing
from smalldata_vit.words import ConfigError


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The jobs that were composed in full."""
    seen: list[list[str]] = []

    def counted(typed: list[str]) -> object:
        seen.append(typed)
        return in_full(typed)

    monkeypatch.setattr(sweep_compose, "in_full", counted)
    return seen


@pytest.mark.parametrize(
    "swept",
    [
        ["seed=0,1,2,3"],
        ["finetune.epochs=1,2,3.5", "finetune.steps=null"],
        ["optimization.lr=1,1e-3,0.1", "seed=0,1"],
        ["method.label_smoothing=0.1,0.2,0.3", "finetune.method.label_smoothing=0.0"],
        ["debug=true,false", "seed=0,1"],
        ["image_size=8,16"],
        ["dataset.labels_per_class=1,2,5,null", "seed=0,1"],
        ["name=a,b,c", "tags=[x],[y]"],
        ["finetune.select=last,best", "trainer=cpu,ddp", "seed=0,1,2"],
        ["finetune.start_from.timm=resnet18,resnet34,resnet50", "name=a"],
    ],
    ids=lambda swept: swept[0],
)
def test_a_job_is_what_its_command_composes(swept: list[str]) -> None:
    lists = [[f"{key}={value}" for value in values.split(",")] for key, values in (w.split("=", 1) for w in swept)]
    composer = Composer(["method=supervised", "finetune.batch_size=32"])
    for words in product(*lists):
        found, cfg = composer(list(words)), config.compose(["method=supervised", "finetune.batch_size=32", *words])
        assert found.stages == {name: config.stage_config(cfg, name) for name in cfg.stages}, words
        assert found.hash == config.experiment_hash(cfg), words


def test_a_thousand_jobs_are_composed_in_a_few_steps(full: list[list[str]]) -> None:
    composer = Composer(["method=supervised"])
    hashes = {composer([f"seed={n}", f"finetune.optimization.lr={1 / (1 + n % 7)}"]).hash for n in range(1000)}
    assert len(hashes) == 1000
    assert len(full) <= 5


def test_a_value_that_decides_more_than_itself_is_composed_every_time(full: list[list[str]]) -> None:
    composer = Composer(["method=supervised"])
    steps = {(d, s): composer([f"debug={d}", f"seed={s}"]) for d in ("true", "false") for s in range(20)}
    assert steps["true", 19].stages["finetune"]["steps"] == 2
    assert steps["false", 19].stages["finetune"]["steps"] == 300
    assert len(full) < 10


@pytest.mark.parametrize("wrong", ["-1", "text", "1.5"])
def test_one_wrong_value_among_many_right_ones_is_refused(wrong: str) -> None:
    composer = Composer(["method=supervised"])
    for seed in range(5):
        composer([f"seed={seed}"])
    with pytest.raises(ConfigError, match="seed"):
        composer([f"seed={wrong}"])


def test_an_output_folder_that_holds_a_value_is_that_of_the_job(tmp_path: Path) -> None:
    composer = Composer(["method=supervised", f"output_dir={tmp_path}/s${{seed}}"])
    assert [composer([f"seed={n}"]).output_dir for n in (3, 4, 5, 4)] == [f"{tmp_path}/s{n}" for n in (3, 4, 5, 4)]


def test_jobs_that_differ_after_pretraining_share_its_key_and_no_other() -> None:
    composer = Composer(["method=dino"])
    one, two, three = (
        composer(words).shared()
        for words in (["seed=0", "finetune.epochs=1"], ["seed=0", "finetune.epochs=2"], ["seed=1", "finetune.epochs=1"])
    )
    assert one["pretrain"] == two["pretrain"] != three["pretrain"]
    assert len({one["finetune"], two["finetune"], three["finetune"]}) == 3


def test_without_a_store_nothing_is_shared() -> None:
    assert Composer(["method=dino", "store=null"])(["seed=0"]).shared() == {}


def test_trees_differ_where_a_leaf_its_type_or_the_shape_does() -> None:
    one = {"a": [1, {"b": 2}], "c": 1, "d": {"e": 1}}
    other = {"a": [1, {"b": 3}], "c": 1.0, "d": {"f": 1}}
    assert list(differing(one, other)) == [("a", 1, "b"), ("c",), ("d",)]
