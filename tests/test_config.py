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
    ("finetune.start_from={stage: pretrain, file: x}", "both a stage and a file"),
    ("finetune.start_from.timm=true", "finetune.start_from.timm=deit_tiny_patch16_224"),
    ("finetune.start_from.format=ganni", "Did you mean gani?"),
    ("finetune.start_from.stage=evaluate", "is none of guide, pretrain, finetune, finetune_448"),
    ("finetune.batch_size=null", "finetune.batch_size=null"),
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


@pytest.mark.parametrize("source", ["file=a.pth", "timm=vit_tiny_patch16_224"])
def test_a_source_that_is_typed_takes_the_place_of_the_plans_stage(source: str) -> None:
    found = stage("finetune", f"finetune.start_from.{source}")["start_from"]
    assert [key for key in ("stage", "file", "timm") if found[key] is not None] == [source.partition("=")[0]]
    check(compose([f"finetune.start_from.{source}"]))


def test_two_sources_that_are_typed_are_refused() -> None:
    said = refused("finetune.start_from.file=a.pth", "finetune.start_from.timm=resnet18")
    assert "both a file and a timm" in said


def test_timm_true_is_the_name_that_the_arch_has() -> None:
    words = ["arch=timm", "arch.name=resnet18", "finetune.start_from.timm=true"]
    check(compose(words))
    assert stage("finetune", *words)["start_from"]["timm"] == "resnet18"


IDMM = ["method=idmm", "dataset=flowers102", "arch=deit_tiny"]


def test_idmm_is_three_stages_with_one_head_from_224_to_448_pixels() -> None:
    cfg = compose(IDMM)
    check(cfg)
    assert list(cfg.stages) == ["pretrain", "finetune", "finetune_448"]
    last = stage("finetune_448", *IDMM)
    assert (last["image_size"], last["arch"]["image_size"], last["epochs"]) == (448, 448, 100)
    assert (last["batch_size"], last["pass_size"], last["optimization"]["lr"]) == (128, 32, 5e-5)
    assert round(last["evaluation_view"]["resize_ratio"] * 448) == 512
    start = {key: last["start_from"][key] for key in ("stage", "weights", "head", "positions")}
    assert start == {"stage": "finetune", "weights": "encoder", "head": "keep", "positions": "bicubic"}
    assert cfg.evaluate.start_from.stage == "finetune_448"


def test_the_last_stage_of_idmm_is_minimised_and_normalised_as_the_one_before() -> None:
    words = ["finetune.method.mixing=null", "finetune.method.label_smoothing=0.3", "finetune.dataset.std=[1,1,1]"]
    before, last = (stage(name, *IDMM, *words) for name in ("finetune", "finetune_448"))
    assert last["method"] == before["method"]
    assert (last["dataset"], last["views"]) == (before["dataset"], before["views"])


def test_the_last_stage_of_idmm_has_any_size() -> None:
    words = ["pretrain.image_size=32", "finetune.image_size=64", "finetune_448.image_size=128"]
    sizes = [stage(name, *IDMM, *words)["arch"]["image_size"] for name in ("pretrain", "finetune", "finetune_448")]
    assert sizes == [32, 64, 128]


def test_what_is_judged_is_judged_as_the_stage_trains_it() -> None:
    words = [
        "stages=[pretrain,finetune,evaluate]",
        "arch.depth=2",
        "finetune.method.feature_scale=3.0",
        "image_size=16",
    ]
    cfg = compose(words)
    check(cfg)
    trained, judged = stage("finetune", *words), stage("evaluate", *words)
    for key in ("dataset", "arch", "method", "image_size", "evaluation_view", "reads_labels"):
        assert judged[key] == trained[key]
    assert (judged["learner"], judged["views"], judged["optimization"]) == (None, None, None)


def test_what_is_said_of_evaluate_itself_stays() -> None:
    words = ["stages=[evaluate]", "evaluate.method.feature_scale=1.0", "evaluate.dataset=cifar10", "evaluator=[knn]"]
    judged = stage("evaluate", *words)
    assert (judged["dataset"]["name"], list(judged["evaluator"])) == ("cifar10", ["knn"])
    assert (judged["method"]["feature_scale"], judged["method"]["normalize_features"]) == (1.0, True)


def test_pretraining_is_judged_with_its_own_method_and_without_labels() -> None:
    judged = stage("evaluate", "stages=[evaluate]", "evaluate.start_from.stage=pretrain", "method.hidden=32")
    assert judged["method"] == stage("pretrain", "method.hidden=32")["method"]
    assert judged["reads_labels"] is False


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("evaluate.views=plain", "evaluate.views is given, but evaluate does not train"),
        ("evaluate.start_from=null", "there is nothing to judge"),
        ("evaluate.start_from.stage=null", "neither a stage nor a file"),
    ],
)
def test_a_judging_stage_that_cannot_be_is_refused_in_words(word: str, said: str) -> None:
    assert said in refused("stages=[evaluate]", word)


def test_the_stage_finetune_448_follows_any_method_once_its_length_and_batch_are_given() -> None:
    words = ["stages=[pretrain,finetune,finetune_448]", "finetune_448.image_size=16"]
    said = refused(*words)
    assert "finetune_448 has no length" in said
    assert "finetune_448.batch_size=null" in said
    check(compose([*words, "finetune_448.epochs=1", "finetune_448.batch_size=8"]))


def test_a_start_that_the_plan_does_not_have_is_given_whole_or_by_its_keys() -> None:
    words = ["method=supervised", "stages=[finetune]"]
    whole = config.compose([*words, "finetune.start_from={file: a.ckpt, head: new}"])
    apart = config.compose([*words, "finetune.start_from.file=a.ckpt", "finetune.start_from.head=new"])
    assert whole.finetune.start_from == apart.finetune.start_from
    assert whole.finetune.start_from.file == "a.ckpt"
    with pytest.raises(config.ConfigError, match="files"):
        config.compose([*words, "finetune.start_from={files: a.ckpt}"])
