"""What people type: rewritten, composed, inherited, refused; and what a stage's config and hash hold."""

import json

import pytest

from smalldata_vit import config
from smalldata_vit.composition import choices_of, composed
from smalldata_vit.config import ConfigError, check, compose, config_hash, quoted, rewrite, stage_config
from smalldata_vit.inheritance import merged
from smalldata_vit.overrides import parse


def refused(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(compose(words))
    return str(caught.value)


def stage(name: str, *words: str) -> dict:
    return stage_config(compose(words), name)


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("pretrain.dataset=flowers102", "dataset@pretrain.dataset=flowers102"),
        ("finetune.evaluator=[knn,linear]", "evaluator@finetune.evaluator=[knn,linear]"),
        ("pretrain.views=multicrop,two_crops", "views@pretrain.views=multicrop,two_crops"),
        ("pretrain.views=glob(*)", "views@pretrain.views=glob(*)"),
        ("pretrain.epochs=range(1,4)", "pretrain.epochs=range(1,4)"),
        ("pretrain.optimization.lr=choice(1e-3,1e-4)", "pretrain.optimization.lr=choice(1e-3,1e-4)"),
        ("pretrain.dataset.root=/a=b", "pretrain.dataset.root=/a=b"),
        ("dataset@pretrain.dataset=digits", "dataset@pretrain.dataset=digits"),
        ("+experiment=x", "experiment=x"),
        ("seed=1", "seed=1"),
    ],
)
def test_what_is_typed_becomes_what_hydra_takes(typed: str, given: str) -> None:
    assert rewrite([typed]) == [given]
    assert rewrite(rewrite([typed])) == [given]


MISTAKES = [
    ("pretrain.epoch=3", "Did you mean pretrain.epochs?"),
    ("pretrain.batchsize=3", "Did you mean pretrain.batch_size?"),
    ("sed=1", "Did you mean seed?"),
    ("stage=[finetune]", "Did you mean stages?"),
    ("+pretrain.foo=3", "there is no key pretrain.foo"),
    ("+foo=3", "there is no key foo"),
    ("dataset=cifr10", "Did you mean cifar10?"),
    ("pretrain.dataset=flower102", "Did you mean flowers102?"),
    ("method=dinno", "There are dino, idmm, mocov2, mocov3, simclr, supcon, supervised"),
    ("evaluator=[knn,liner]", "Did you mean linear?"),
    ("evaluator=knn,linear", "evaluator=[knn,linear]"),
    ("logger=[csv,wandbb]", "Did you mean wandb?"),
    ("views=mulitcrop", "Did you mean multicrop?"),
    ("plan=foo", "plan has no option foo"),
    ("method=[dino]", "evaluator and logger take several"),
    ("arch={depth: 2}", "arch.<key>="),
    ("dataset@foo=digits", "<stage>.dataset="),
    ("pretrain.trainer=cpu", "trainer=cpu"),
    ("pretrain.epochs=abc", "could not be converted to Float"),
    ("seed=1.5", "could not be converted to Integer"),
    ("seed=-1", "must not be negative"),
    ("seed=0,1", "need -m"),
    ("debug=maybe", "true or false"),
    ("name=None", "name=null"),
    ("dataset.labels_per_class=None", "dataset.labels_per_class=null"),
    ("method.train_prototype_norms=no", "a truth value is true or false"),
    ("output_dir=a=b", "'output_dir=\"a=b\"'"),
    ("stages=[pretrian]", "Did you mean pretrain?"),
    ("stages=[finetune,finetune]", "named twice"),
    ("stages=[]", "runs nothing"),
    ("pretrain=3", "pretrain=3"),
    ("method.student_temprature=0.2", "Did you mean method.student_temperature?"),
    ("method.student_temperature=hot", "it takes float"),
    ("method.momentum=0.99", "it takes Schedule"),
    ("~method.prototypes", "also needs prototypes"),
    ("arch.bogus=1", "there is no key arch.bogus"),
    ("optimization.lrr=1", "Did you mean pretrain.optimization.lr?"),
    ("optimization.clip=both", "Literal['global', 'each']"),
    ("optimization.schedule.peek=1", "Did you mean pretrain.optimization.schedule.peak?"),
    ("views.groups.bogus.flip=0", "there is no key pretrain.views.groups.bogus"),
    ("method._target_=smalldata_vit.methods.dino.DINOO", "Did you mean smalldata_vit.methods.dino.DINO?"),
    ("optimization.optimizer._target_=os.system", "is not allowed"),
    ("optimization.optimizer._target_=torch.load", "is not allowed"),
    ("method._target_=smalldata_vit.atomic.os.replace", "does not exist"),
    ("method._target_=smalldata_vit.assembly.instantiate", "does not exist"),
    ("trainer.presicion=3", "Did you mean trainer.precision?"),
    ("trainer.precision=fp16", "32-true"),
    ("trainer.devices=two", "no number"),
    ("trainer.lightning.benchmrk=true", "Did you mean trainer.lightning.benchmark?"),
    ("trainer.lightning.max_epochs=3", "<stage>.epochs="),
    ("+trainer.lightning.callbacks=[]", "<stage>.select="),
    ("finetune.start_from.head=old", "new, keep, probe"),
    ("finetune.start_from.stage=null", "neither a stage nor a file"),
    ("finetune.start_from.file=x", "both a stage and a file"),
    ("finetune.start_from.stage=finetune", "cannot start from itself"),
    ("finetune.method.mixing.probability=1", "finetune.method.mixing is None"),
    ("pretrain.batch_size=0", "must be more than 0"),
    ("pretrain.steps=null", "has no length"),
    ("pretrain.learner=x", "a subtree belongs there"),
    ("hydra.launcher.jobs=2", "-m alone"),
    ("chosen.method=dino", "written by composition"),
    ("data=mnist", "dataset=<option>"),
    ("model=vit", "arch=<option>"),
    ("model.net.width=3", "arch=<option>"),
    ("trainer.max_epochs=3", "<stage>.epochs="),
    ("trainer.accumulate_grad_batches=2", "pass_size"),
    ("ckpt_path=x.ckpt", "start_from.file="),
    ("train=False", "stages="),
    ("debug=default", "debug=true"),
    ("hparams_search=optuna", "-m"),
    ("callbacks=default", "select="),
    ("lr=1", "optimization.lr="),
    ("seed", "key=value"),
    ("=3", "key=value"),
]


@pytest.mark.parametrize(("word", "said"), MISTAKES, ids=[word for word, _ in MISTAKES])
def test_a_mistake_is_refused_in_words(word: str, said: str) -> None:
    assert said in refused(word)


def test_all_misfits_are_told_at_once() -> None:
    message = refused("method.student_temperature=hot", "optimization.clip=both", "finetune.select=beast", "seed=-1")
    for said in ("student_temperature", "clip", "finetune.select=beast", "seed=-1"):
        assert said in message


def test_a_scalar_where_a_subtree_belongs_is_refused() -> None:
    cfg = config.OmegaConf.create(config.OmegaConf.to_container(compose([])))
    cfg.pretrain.dataset = "flowers102"
    with pytest.raises(ConfigError, match=r"pretrain\.dataset is 'flowers102', but a subtree belongs there"):
        check(cfg)


def test_a_package_of_the_users_own_is_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    at = "pretrain.optimization.optimizer"
    words = ["pretrain.optimization=gani_pretrain", f"{at}._target_=torch.optim.RAdam", f"~{at}.fused"]
    assert "is not allowed" in refused(*words)
    monkeypatch.setenv("SMALLDATA_VIT_ALLOW", "other, torch.optim")
    check(compose(words))


def test_an_argument_that_no_file_names_can_be_typed_if_the_target_takes_it() -> None:
    assert (
        stage("pretrain", "pretrain.optimization.schedule.warmup_epochs=3")["optimization"]["schedule"]["warmup_epochs"]
        == 3
    )
    assert stage("pretrain", "trainer.lightning.benchmark=true")["trainer"]["lightning"]["benchmark"] is True


def test_root_values_hold_for_every_stage_with_the_same_option() -> None:
    words = ["dataset.labels_per_class=1", "dataset.root=/x", "arch.depth=2", "method.student_temperature=0.2"]
    for name in ("pretrain", "finetune"):
        settings = stage(name, *words)
        assert settings["dataset"]["labels_per_class"] == 1
        assert settings["dataset"]["root"] == "/x"
        assert settings["arch"]["depth"] == 2
    assert stage("pretrain", *words)["method"]["student_temperature"] == 0.2
    assert "student_temperature" not in stage("finetune", *words)["method"]


def test_a_stage_keeps_what_it_was_given_itself_whatever_the_order() -> None:
    words = ["pretrain.dataset.labels_per_class=10", "dataset.labels_per_class=1"]
    for typed in (words, words[::-1]):
        assert stage("pretrain", *typed)["dataset"]["labels_per_class"] == 10
        assert stage("finetune", *typed)["dataset"]["labels_per_class"] == 1


def test_a_stage_with_its_own_option_inherits_nothing() -> None:
    words = ["dataset=digits", "pretrain.dataset=flowers102", "dataset.labels_per_class=1"]
    own = stage("pretrain", *words)
    assert own["dataset"]["name"] == "flowers102"
    assert own["dataset"]["labels_per_class"] is None
    assert own["image_size"] == own["dataset"]["image_size"] == own["arch"]["image_size"]
    assert stage("finetune", *words)["image_size"] == 8


def test_an_image_size_at_the_root_reaches_the_stages_and_their_networks() -> None:
    settings = stage("pretrain", "image_size=16", "finetune.image_size=24")
    assert settings["image_size"] == settings["arch"]["image_size"] == 16
    assert stage("finetune", "image_size=16", "finetune.image_size=24")["arch"]["image_size"] == 24


def test_a_three_way_merge_takes_the_changed_side() -> None:
    option = {"a": 1, "b": 2, "c": {"d": 3, "e": 4}, "gone": 5}
    root = {"a": 10, "b": 2, "c": {"d": 30, "e": 40}, "new": 6}
    own = {"a": 1, "b": 20, "c": {"d": 3, "e": 4}, "gone": 5}
    assert merged(option, root, own, {"c.e"}) == {"a": 10, "b": 20, "c": {"d": 30, "e": 4}, "new": 6}


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        ([], "dino_digits"),
        (["dataset=cifar10"], "dino"),
        (["method=supervised"], "supervised_digits"),
        (["method=supervised", "dataset=cifar10"], "supervised"),
        (["plan=pretrained"], "pretrained"),
    ],
)
def test_the_most_specific_plan_is_chosen_by_the_final_options(words: list[str], plan: str) -> None:
    assert compose(words).chosen["plan"] == plan


def test_views_at_the_root_hold_for_the_methods_own_stage() -> None:
    words = ["views=plain", "evaluator=[knn]", "optimization=adamw", "optimization.lr=0.5"]
    for method, own, other in (("dino", "pretrain", "finetune"), ("supervised", "finetune", "pretrain")):
        cfg = compose([f"method={method}", *words])
        assert cfg.chosen[f"views@{own}.views"] == "plain"
        assert cfg.chosen[f"views@{other}.views"] != "plain"
        assert list(cfg[own].evaluator) == ["knn"]
        assert (cfg[own].optimization.lr, cfg[other].optimization.lr != 0.5) == (0.5, True)


def test_supervised_is_one_stage_from_scratch() -> None:
    cfg = compose(["method=supervised"])
    assert (list(cfg.stages), cfg.finetune.start_from) == (["finetune"], None)
    assert compose(["method=supervised", "finetune.start_from.file=a.pt"]).finetune.start_from.file == "a.pt"


def test_a_later_word_wins() -> None:
    assert compose(["seed=1", "seed=2"]).seed == 2


def test_a_stage_is_plain_values_alone() -> None:
    settings = stage("finetune", "tags=[a]", "name=n")
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["stage"], settings["seed"], settings["experiment_name"]) == ("finetune", 0, "n")
    assert stage("finetune")["experiment_name"] == "dino_digits"


def test_debug_makes_two_steps_a_stage() -> None:
    assert (stage("pretrain", "debug=true")["steps"], stage("finetune", "debug=true")["steps"]) == (2, 2)


@pytest.mark.parametrize(
    "word",
    [
        "trainer=cpu",
        "trainer.devices=2",
        "trainer.lightning.benchmark=true",
        "logger=[csv,wandb]",
        "tags=[x]",
        "name=x",
        "output_dir=x",
        "store=null",
        "dataset.root=/x",
        "dataset.cache=/x",
        "finetune.checkpoint_every_seconds=3",
    ],
)
def test_where_a_stage_runs_does_not_change_its_hash(word: str) -> None:
    assert config_hash(stage("finetune", word)) == config_hash(stage("finetune"))


@pytest.mark.parametrize(
    "word", ["seed=1", "finetune.optimization.lr=1", "arch.depth=2", "finetune.steps=5", "debug=true"]
)
def test_what_a_stage_is_changes_its_hash(word: str) -> None:
    assert config_hash(stage("finetune", word)) != config_hash(stage("finetune"))


def test_labels_are_no_input_of_a_stage_that_reads_none() -> None:
    for name, same in (("pretrain", True), ("finetune", False)):
        assert (config_hash(stage(name, "dataset.labels_per_class=1")) == config_hash(stage(name))) is same


def test_the_hash_is_independent_of_the_order_of_words() -> None:
    words = ["arch.depth=2", "finetune.steps=5", "method.prototypes=64"]
    assert config_hash(stage("finetune", *words)) == config_hash(stage("finetune", *words[::-1]))


@pytest.mark.parametrize(
    "text", ["a/b", "a=b", "a,b", "it's", "a b", "null", "1", "\\", "a\\'", "{x}", "[1]", "", "über"]
)
def test_a_quoted_text_comes_back_as_it_was(text: str) -> None:
    assert parse([f"output_dir={quoted(text)}"])[0].value() == text


def test_composition_is_read_only() -> None:
    with pytest.raises(config.OmegaConfBaseException):
        compose([]).seed = 3


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["method=supervised", "dataset=cifar10", "arch=deit_tiny"],
        ["dataset@pretrain.dataset=flowers102", "evaluator@finetune.evaluator=[knn,linear]", "logger=[csv,wandb]"],
        ["plan=supervised", "trainer=cpu"],
    ],
)
def test_the_options_found_without_composing_are_those_of_the_composed_config(words: list[str]) -> None:
    found = {group: name for group, name in choices_of(words).items() if not group.startswith("hydra/")}
    assert found == composed(words)[1]


def test_a_config_is_composed_once_for_its_options_are_settled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(words: list[str]) -> tuple:
        made.append(words)
        return composed(words)

    monkeypatch.setattr(config, "composed", counted)
    compose(["method=supervised", "dataset=cifar10"])
    assert len(made) == 1
    assert "plan=supervised" in made[0]
