"""The experiments of Gani et al. (BMVC 2022); that they compose with flavour=fixed is asked in test_conf."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest

from smalldata_vit import config

NAMES = [name for name in config.options("experiment") if name.startswith("gani/")]
FLAVOURS = ("fixed", "faithful")
FIELDS = ("Command", "Paper", "Others", "Ours", "Departures")


@functools.cache
def stages(*words: str) -> Mapping[str, Mapping[str, Any]]:
    """The scheduled stages of an experiment, resolved and checked; kept, as composing takes a second."""
    cfg = config.compose(words)
    config.check(cfg)
    return {name: config.stage_config(cfg, name) for name in cfg.stages}


def values(node: Any, *paths: str) -> dict[str, Any]:
    """What stands at dotted paths."""
    found = {}
    for path in paths:
        value = node
        for part in path.split("."):
            value = value[part]
        found[path] = value
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_and_passes_the_check_in_its_faithful_flavour(name: str) -> None:
    found = stages(f"experiment={name}", "flavour=faithful")
    assert set(found) <= {"pretrain", "finetune", "evaluate"}
    if "finetune" in found:
        assert list(values(found["finetune"], "select", "dataset.validation").values()) == ["best", "test"]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_begins_with_a_lab_note(name: str) -> None:
    text = (config.CONF / "experiment" / f"{name}.yaml").read_text()
    note = text[: text.index("\ndefaults:")].splitlines()
    assert note[0] == "# @package _global_"
    assert all(line.startswith("#") for line in note)
    fields = {line[2:].split(" ")[0]: line for line in note if line[2:3].isupper()}
    assert set(FIELDS) <= set(fields)
    assert f"python run.py experiment={name}" in fields["Command"]


def test_the_whole_main_table_is_there() -> None:
    nets, sets = ("vit", "swin", "cait"), ("tiny_imagenet", "cifar10", "cifar100", "cinic10", "svhn")
    cells = [f"gani/{net}_{data}" for net in nets for data in sets]
    rows = [f"gani/{row}" for net in nets for row in (f"{net}_scratch", f"sl_{net}", f"{net}_drloc")]
    rows += [f"gani/{row}" for row in ("resnet56", "resnet110", "efficientnet_b0", "resnet18")]
    assert {*cells, *rows} <= set(NAMES)


def test_pretraining_of_the_vit_on_cifar10_is_the_published_one() -> None:
    found = stages("experiment=gani/vit_cifar10", "flavour=faithful")["pretrain"]
    method = {key: value for key, value in found["method"].items() if not key.startswith("_")}
    assert method == {
        "momentum": {"_target_": "smalldata_vit.schedules.Cosine", "start": 0.996, "end": 1.0},
        "teacher_temperature": {
            "_target_": "smalldata_vit.schedules.LinearEpochs", "start": 0.04, "end": 0.07, "epochs": 10,
        },
        "student_temperature": 0.1, "centre_momentum": 0.9, "prototypes": 1024, "hidden": 512, "bottleneck": 256,
        "head_layers": 3, "batch_norm": False, "head_init": "truncated_normal", "train_prototype_norms": False,
        "freeze_prototypes_epochs": 1, "teacher_drop_path_rate": None,
    }  # fmt: skip
    assert values(found, "epochs", "batch_size", "pass_size", "drop_last", "passes_per_epoch", "start_from") == {
        "epochs": 200, "batch_size": 512, "pass_size": 256, "drop_last": True, "passes_per_epoch": 1,
        "start_from": None,
    }  # fmt: skip
    rule = values(
        found["optimization"], "optimizer._target_", "optimizer.betas", "optimizer.eps", "lr", "lr_per_images",
        "schedule.warmup_epochs", "schedule.start", "schedule.floor", "weight_decay.start", "weight_decay.end",
        "decays", "clip_norm", "clip",
    )  # fmt: skip
    assert list(rule.values()) == [
        "torch.optim.AdamW", [0.9, 0.999], 1e-8, 1e-4, 256, 30, 0.0, 1e-6, 0.04, 0.4, "matrices", 3.0, "each",
    ]  # fmt: skip


def test_the_views_of_pretraining_on_cifar10_are_the_published_ones() -> None:
    groups = stages("experiment=gani/vit_cifar10", "flavour=faithful")["pretrain"]["views"]["groups"]
    paths = ("count", "size_ratio", "crop.scale", "crop.ratio", "crop.interpolation", "flip", "gray",
             "jitter.probability", "blur.probability", "blur.radius")  # fmt: skip
    ratio = [0.75, 1.3333333]
    assert list(values(groups["global"], *paths).values()) == [
        2, 1.0, [0.7, 1.0], ratio, "bicubic", 0.5, 0.2, 0.8, [1.0, 0.1], [0.1, 2.0],
    ]  # fmt: skip
    assert list(values(groups["local"], *paths).values()) == [
        8, 0.5, [0.2, 0.5], ratio, "bicubic", 0.5, 0.2, 0.8, 0.5, [0.1, 2.0],
    ]  # fmt: skip
    assert values(groups["global"]["solarize"], "probability", "threshold") == {
        "probability": [0.0, 0.2],
        "threshold": 128,
    }
    for group in groups.values():
        assert list(values(group["jitter"], "brightness", "contrast", "saturation", "hue").values()) == [
            0.4, 0.4, 0.2, 0.1,
        ]  # fmt: skip


def test_fine_tuning_of_the_vit_on_cifar10_is_the_published_one() -> None:
    found = stages("experiment=gani/vit_cifar10", "flavour=faithful")["finetune"]
    stage = values(found, "epochs", "passes_per_epoch", "batch_size", "pass_size", "drop_last", "evaluate_every_epochs",
                   "start_from.stage", "start_from.weights", "start_from.head", "method.label_smoothing",
                   "method.head_init", "arch.drop_path_rate")  # fmt: skip
    assert list(stage.values()) == [
        100, 3, 256, 256, True, 1, "pretrain", "teacher", "new", 0.1, "truncated_normal", 0.1,
    ]  # fmt: skip
    assert list(values(found["method"]["mixing"], "probability", "mixup_alpha", "cutmix_alpha", "switch",
                       "cutmix_share", "fold").values()) == [0.5, 1.0, 1.0, "random", 0.5, False]  # fmt: skip
    rule = values(found["optimization"], "optimizer._target_", "lr", "lr_per_images", "schedule.warmup_epochs",
                  "schedule.start", "schedule.floor", "weight_decay.value", "decays", "clip_norm")  # fmt: skip
    assert list(rule.values()) == ["torch.optim.AdamW", 1e-3, None, 10, 1e-6, 1e-6, 0.05, "all", None]
    whole = found["views"]["groups"]["whole"]
    assert list(values(whole, "crop.padding", "flip", "policy.policy", "policy.fill", "policy.variant",
                       "erasing.probability", "erasing.scale", "erasing.ratio", "erasing.fill", "erasing.tries",
                       "erasing.shape").values()) == [
        4, 0.5, "CIFAR10", 128, "gani", 0.25, [0.02, 0.4], [0.3, 3.3333333], "unnormalised_mean", 100, "uniform",
    ]  # fmt: skip


def test_the_flavours_differ_in_nothing_but_their_switches_and_train_for_as_many_steps() -> None:
    fixed, faithful = (stages("experiment=gani/vit_cifar10", f"flavour={flavour}") for flavour in FLAVOURS)
    said = {path for stage in ("pretrain", "finetune") for path in differing(fixed[stage], faithful[stage], stage)}
    assert said == {
        "pretrain.arch.positions", "pretrain.method.teacher_drop_path_rate", "pretrain.optimization.clip",
        "finetune.arch.positions", "finetune.dataset.validation", "finetune.select", "finetune.evaluate_every_epochs",
        "finetune.epochs", "finetune.passes_per_epoch", "finetune.optimization.schedule.warmup_epochs",
        "finetune.optimization.decays", "finetune.views.groups.whole.policy.variant",
        "finetune.views.groups.whole.erasing.fill", "finetune.views.groups.whole.erasing.shape",
    }  # fmt: skip
    passes = [one["finetune"]["epochs"] * one["finetune"]["passes_per_epoch"] for one in (fixed, faithful)]
    assert passes == [300, 300]


def differing(one: Any, other: Any, path: str) -> set[str]:
    """Dotted paths at which nested plain values differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = {*one, *other}
        return {p for key in keys for p in differing(one.get(key), other.get(key), f"{path}.{key}")}
    return set() if one == other else {path}


@pytest.mark.parametrize(("network", "switch"), [("cait", {"positions": "size"}), ("swin", {"fit": "fitted"})])
def test_what_is_odd_in_a_network_is_switched_with_the_flavour(network: str, switch: dict[str, str]) -> None:
    odd = {"positions": "slice"} if network == "cait" else {"fit": "padded"}
    for flavour, expected in (("fixed", switch), ("faithful", odd)):
        for stage in stages(f"experiment=gani/{network}_cifar10", f"flavour={flavour}").values():
            assert values(stage["arch"], *expected) == expected


LARGE = ([0.5, 1.0], [0.2, 0.4])
SMALL = ([0.7, 1.0], [0.2, 0.5])


@pytest.mark.parametrize(
    ("network", "dataset", "size", "patch", "scales", "policy"),
    [
        ("vit", "cifar100", 32, 4, SMALL, "CIFAR10"),
        ("vit", "svhn", 32, 4, SMALL, "SVHN"),
        ("cait", "cinic10", 32, 4, SMALL, "IMAGENET"),
        ("cait", "tiny_imagenet", 64, 8, LARGE, "IMAGENET"),
        ("swin", "svhn", 32, 2, SMALL, "SVHN"),
        ("swin", "tiny_imagenet", 64, 4, LARGE, "IMAGENET"),
        ("vit", "cars", 224, 16, LARGE, "IMAGENET"),
        ("swin", "aircraft", 224, 4, LARGE, "IMAGENET"),
    ],
)
def test_patch_crops_and_policy_follow_a_dataset_that_is_typed(
    network: str, dataset: str, size: int, patch: int, scales: tuple[list[float], list[float]], policy: str
) -> None:
    found = stages(f"experiment=gani/{network}_cifar10", f"dataset={dataset}")
    for stage in found.values():
        assert values(stage, "image_size", "arch.image_size", "arch.patch_size") == {
            "image_size": size, "arch.image_size": size, "arch.patch_size": patch,
        }  # fmt: skip
    groups = found["pretrain"]["views"]["groups"]
    assert (groups["global"]["crop"]["scale"], groups["local"]["crop"]["scale"]) == scales
    assert found["finetune"]["views"]["groups"]["whole"]["policy"]["policy"] == policy


def test_a_network_of_another_kind_gets_the_datasets_policy_and_no_patch() -> None:
    found = stages("experiment=gani/resnet56", "dataset=svhn")
    assert list(found) == ["finetune"]
    assert found["finetune"]["start_from"] is None
    assert found["finetune"]["views"]["groups"]["whole"]["policy"]["policy"] == "SVHN"
    assert "patch_size" not in found["finetune"]["arch"]


def test_a_dataset_that_the_recipe_does_not_know_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="plan/gani/flowers102"):
        config.compose(["experiment=gani/vit_cifar10", "dataset=flowers102"])
