"""The experiments of guidance: they compose in both flavours, say what they should, and have the published values."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from command import checkpoint, results, succeed
from omegaconf import DictConfig

from smalldata_vit import config
from smalldata_vit.parts.guidance_pairs import by_depth

FOLDER = config.CONF / "experiment" / "guidance"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
NETWORKS = ["convit_ti", "cvt_13", "deit_ti", "pit_ti", "pvt_ti", "pvt_v2_b0", "t2t_vit_14", "t2t_vit_7"]
ROWS = [
    *(f"{network}_{kind}" for network in NETWORKS for kind in ("base", "guided")),
    *(f"deit_ti_{kind}_chaoyang" for kind in ("base", "guided", "decay", "adaptive")),
    *(f"deit_ti_{kind}_{data}" for data in ("flowers102", "tiny_imagenet") for kind in ("base", "guided", "adaptive")),
    *("deit_ti_decay", "deit_ti_adaptive", "resnet18", "resnet18_chaoyang", "resnet56", "dino_decay", "idmm_adaptive"),
]
PAIRS = {name: [[0, 0], [6, 1], [11, 2]] for name in ("convit_ti", "cvt_13", "deit_ti", "pit_ti")}
PAIRS |= {name: [[0, 0], [3, 1], [7, 2]] for name in ("pvt_ti", "pvt_v2_b0")}
PAIRS |= {"t2t_vit_14": [[0, 0], [7, 1], [13, 2]], "t2t_vit_7": [[0, 0], [3, 1], [6, 2]]}


@cache
def composed(experiment: str, flavour: str = "fixed") -> DictConfig:
    """An experiment; composing takes most of a second, so that each is composed once."""
    return config.compose([f"experiment=guidance/{experiment}", f"flavour={flavour}"])


def stage(name: str, experiment: str) -> dict[str, Any]:
    """The resolved values of a stage."""
    return config.stage_config(composed(experiment), name)


def test_every_row_has_an_experiment_and_there_are_no_others() -> None:
    assert sorted(ROWS) == NAMES


QUICK = {"deit_ti_guided", "deit_ti_base", "deit_ti_decay_chaoyang", "deit_ti_adaptive", "resnet18", "resnet56"}
QUICK |= {"dino_decay", "idmm_adaptive", "cvt_13_guided"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES])
@pytest.mark.parametrize("flavour", ["fixed", "faithful"])
def test_it_composes_and_passes_the_check_in_both_flavours(name: str, flavour: str) -> None:
    cfg = composed(name, flavour)
    config.check(cfg)
    guided = [s for s in cfg.stages if cfg[s].guidance]
    assert {cfg[s].guidance.bn_mode for s in guided} <= {{"fixed": "eval", "faithful": "train"}[flavour]}
    assert {cfg[s].select for s in cfg.stages if s != "pretrain"} == {{"fixed": "last", "faithful": "best"}[flavour]}
    assert ("guide" in cfg.stages) == (bool(guided) or name == "resnet56")
    assert (cfg.finetune.dataset.validation == "test") == (flavour == "faithful")


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_a_lab_note(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text().partition("defaults:")[0]
    assert f"# Command: python run.py experiment=guidance/{name} " in text
    for said in ("# Hardware and hours: ", "# Published", "# Ours: ", "# Departures: "):
        assert said in text


@pytest.mark.parametrize("name", ["deit_ti_decay", "deit_ti_adaptive", "deit_ti_guided", "deit_ti_base"])
def test_the_notes_of_the_main_rows_have_all_three_sources_side_by_side(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    for number in ("65.08", "78.15", "65.06", "77.38", "82.06", "67.82", "79.35", "85.43"):
        assert number in text


def test_the_guided_deit_has_the_published_values_to_the_digit() -> None:
    made = stage("finetune", "deit_ti_guided")
    assert (made["epochs"], made["batch_size"], made["drop_last"], made["image_size"]) == (300, 128, True, 224)
    arch = {"image_size": 224, "patch_size": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4}
    assert {key: made["arch"][key] for key in (*arch, "drop_path_rate")} == {**arch, "drop_path_rate": 0.1}
    assert made["arch"]["_target_"] == "smalldata_vit.backbones.vit.vit"
    method, guidance, rule = made["method"], made["guidance"], made["optimization"]
    assert (method["mixing"], method["label_smoothing"], method["head_init"]) == (None, 0.0, "zero")
    assert guidance["weight"] == {"_target_": "smalldata_vit.schedules.Constant", "value": 2.5}
    assert (guidance["pairs"], guidance["image_size"]) == ([[0, 0], [6, 1], [11, 2]], 32)
    assert (guidance["transform"], guidance["reduction"], guidance["standardize"]) == ("linear", "mean", False)
    assert (guidance["guide"]["depth"], guidance["guide"]["width"], guidance["features"]) == (56, 16, "live")
    assert rule["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert (rule["optimizer"]["betas"], rule["lr"], rule["lr_per_images"]) == ([0.9, 0.999], 5e-4, None)
    assert rule["schedule"]["_target_"] == "smalldata_vit.parts.guidance_schedules.EpochCosine"
    assert (rule["schedule"]["floor"], rule["schedule"]["warmup_epochs"], rule["schedule"]["start"]) == (5e-6, 20, 5e-7)
    assert (rule["weight_decay"]["value"], rule["decays"], rule["clip_norm"]) == (0.05, "weights", None)


@pytest.mark.parametrize("name", ["guide", "finetune"])
def test_students_and_guide_have_the_published_views_normalisation_and_judgement(name: str) -> None:
    made = stage(name, "deit_ti_guided")
    group = made["views"]["groups"]["whole"]
    assert (group["crop"]["scale"], group["crop"]["ratio"]) == ([0.08, 1.0], [0.75, 1.3333333])
    assert (group["crop"]["interpolation"], group["flip"], group["count"]) == ("bicubic", 0.5, 1)
    assert group["policy"]["recipe"] == "rand-m9-mstd0.5-inc1"
    assert (group["erasing"]["probability"], group["erasing"]["fill"]) == (0.25, "noise")
    assert made["dataset"]["mean"] == [0.485, 0.456, 0.406]
    assert made["dataset"]["std"] == [0.229, 0.224, 0.225]
    assert made["dataset"]["validation"] == "none"
    view = made["evaluation_view"]
    assert (view["resize_ratio"], view["interpolation"], view["mode"]) == (1.0, "bilinear", "squash")


def test_the_guide_has_the_published_recipe_of_the_cnns() -> None:
    made = stage("guide", "resnet56")
    assert (made["epochs"], made["batch_size"], made["pass_size"], made["image_size"]) == (300, 128, 128, 32)
    assert (made["arch"]["depth"], made["method"]["head_init"], made["method"]["mixing"]) == (56, "normal", None)
    rule = made["optimization"]
    assert (rule["optimizer"]["_target_"], rule["optimizer"]["momentum"]) == ("torch.optim.SGD", 0.9)
    assert (rule["optimizer"]["nesterov"], rule["lr"], rule["weight_decay"]["value"]) == (True, 0.1, 5e-4)
    assert (rule["schedule"]["floor"], rule["schedule"]["warmup_epochs"], rule["decays"]) == (0.0, 0, "weights")


def test_the_comparator_has_the_recipe_of_the_cnns_at_the_students_size() -> None:
    made = stage("finetune", "resnet18")
    assert (made["arch"]["name"], made["image_size"], made["pass_size"]) == ("resnet18", 224, 128)
    assert made["optimization"] == stage("guide", "resnet56")["optimization"]
    assert made["method"]["head_init"] == "normal"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_guided_network_is_its_baseline_with_the_published_pairs(network: str) -> None:
    base, guided = stage("finetune", f"{network}_base"), stage("finetune", f"{network}_guided")
    assert guided["guidance"]["pairs"] == PAIRS[network]
    assert base["guidance"] == {}
    same = [key for key in base if key not in ("guidance", "experiment_name")]
    assert {key: base[key] for key in same} == {key: guided[key] for key in same}


@pytest.mark.parametrize(
    ("network", "values"),
    [
        ("t2t_vit_7", {"norm_eps": 1e-6, "init": "normal", "token_dropout": 0.0}),
        ("t2t_vit_14", {"norm_eps": 1e-6, "init": "normal", "token_dropout": 0.0}),
        ("pvt_v2_b0", {"inner_eps": 1e-6}),
    ],
)
def test_networks_that_li_et_al_have_otherwise_are_theirs(network: str, values: dict[str, Any]) -> None:
    made = stage("finetune", f"{network}_guided")["arch"]
    assert {key: made[key] for key in values} == values


def test_the_posters_decay_ends_at_epoch_100_and_the_journals_controller_has_its_window_and_threshold() -> None:
    weight = stage("finetune", "deit_ti_decay")["guidance"]["weight"]
    assert (weight["start"], weight["shape"], weight["until_epoch"], weight["until_fraction"]) == (
        2.5,
        "linear",
        100,
        None,
    )
    controller = stage("finetune", "deit_ti_adaptive")["guidance"]["controller"]
    assert (controller["window"], controller["threshold"], controller["comparison"]) == (50, -0.02, "at_least")


@pytest.mark.parametrize("data", ["chaoyang", "flowers102", "tiny_imagenet"])
def test_a_row_on_another_dataset_is_that_of_cifar_100_with_the_dataset_alone_changed(data: str) -> None:
    one, other = stage("finetune", "deit_ti_adaptive"), stage("finetune", f"deit_ti_adaptive_{data}")
    assert {key for key in one if one[key] != other[key]} == {"dataset", "experiment_name"}
    assert (other["dataset"]["name"], other["dataset"]["mean"]) == (data, one["dataset"]["mean"])
    assert (other["dataset"]["validation"], other["image_size"]) == ("none", 224)


def test_in_the_idmm_combination_pretraining_keeps_its_own_statistics_and_the_guide_those_of_fine_tuning() -> None:
    cfg = composed("idmm_adaptive", "faithful")
    assert list(cfg.stages) == ["guide", "pretrain", "finetune"]
    made = {name: config.stage_config(cfg, name)["dataset"] for name in cfg.stages}
    assert [made[name]["std"][0] for name in cfg.stages] == [0.229, 0.228, 0.229]


def test_the_pairs_of_the_dino_combination_are_those_by_depth() -> None:
    made = stage("finetune", "dino_decay")
    assert [tuple(pair) for pair in made["guidance"]["pairs"]] == by_depth(made["arch"]["depth"], 3)


def test_a_combination_runs_from_pretraining_to_a_guided_fine_tuning(tmp_path: Path) -> None:
    small = ("arch=vit_digits", "arch.depth=2", "arch.width=16", "arch.heads=2", "guide.arch.depth=8")
    small = (*small, "guidance.pairs=null", "method.prototypes=32", "method.hidden=16", "method.bottleneck=8")
    small = (*small, "dataset=digits", "dataset.validation=0.1", "pretrain.evaluator=[knn]", "trainer=cpu")
    small = (*small, "pretrain.judge_untrained=false", "pretrain.pixel_baseline=false", "debug=true", "store=null")
    succeed("experiment=guidance/dino_decay", *small, f"output_dir={tmp_path / 'run'}")
    found = results(tmp_path / "run")
    assert [found["stages"][name]["status"] for name in ("guide", "pretrain", "finetune")] == ["finished"] * 3
    assert found["stages"]["finetune"]["guide"]["source"] == "guide"
    assert any(name.startswith("method.guidance.") for name in checkpoint(tmp_path / "run/finetune")["state_dict"])


def test_a_guide_that_is_named_reaches_the_students_config_as_plain_values() -> None:
    cfg = config.compose(["experiment=guidance/deit_ti_guided", "guide.start_from.file=trained.ckpt"])
    made = config.stage_config(cfg, "finetune")
    assert list(cfg.stages) == ["finetune"]
    assert (made["guide_from"]["file"], made["guide_from"]["new"]) == ("trained.ckpt", [])
    assert len(config.config_hash(made)) == 64  # a list of OmegaConf's could not be hashed


def test_a_guided_experiment_without_its_guidance_is_refused_and_named_its_baseline() -> None:
    with pytest.raises(config.ConfigError, match=r"finetune\.guidance is none, but has values .*_base"):
        config.check(config.compose(["experiment=guidance/deit_ti_guided", "guidance=none"]))
