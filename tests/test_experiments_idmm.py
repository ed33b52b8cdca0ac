"""The published experiments of IDMM (Cao, Yu and Wu, ECCV 2022): their notes, their values, what a switch changes."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import results, succeed
from PIL import Image

from smalldata_vit import config
from smalldata_vit.metrics import read_metrics

FOLDER = config.CONF / "experiment" / "idmm"
NAMES = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))
SETS = ("flowers102", "pets", "dtd", "indoor67", "cub200", "aircraft", "cars")
STAGES = ("pretrain", "finetune", "finetune_448")
FEW = {
    "methods/supcon",
    "backbones/pvt_v2_b3_random",
    "backbones/deit_base_imagenet",
    "transfer/t2t_vit_7_supervised",
    "imagenet/pvt_v2_b0_mocov3",
}
"""Of every kind one; the others are slow."""


@cache
def composed(name: str, flavour: str, *words: str) -> Any:
    return config.compose([f"experiment=idmm/{name}", f"flavour={flavour}", *words])


@cache
def stages(name: str, flavour: str = "fixed", *words: str) -> Mapping[str, Any]:
    """The self-contained config of each of the three stages, scheduled or not."""
    return {stage: config.stage_config(composed(name, flavour, *words), stage) for stage in STAGES}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between the stages of two experiments, but for their names: path to both values."""
    first, second = dict(leaves(one)), dict(leaves(other))
    paths = {p for p in first.keys() | second.keys() if first.get(p) != second.get(p)}
    return {p: (first.get(p), second.get(p)) for p in paths if p.split(".")[-1] not in ("name", "experiment_name")}


@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_experiment_passes_the_check_in_the_faithful_flavour(name: str) -> None:
    cfg = composed(name, "faithful")
    config.check(cfg)
    assert cfg.chosen["flavour"] == "idmm/faithful"


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_begins_with_a_note_that_says_what_it_is_worth(name: str) -> None:
    note = [line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert note[0] == "# @package _global_"
    assert note[1].startswith("# Cao, Yu, Wu, Training Vision Transformers with Only 2040 Images, ECCV 2022: ")
    assert any(line.startswith(f"# Command: python run.py experiment=idmm/{name}") for line in note)
    for word in ("# Cost: ", "# Top-1, % ", "# Departures: "):
        assert any(line.startswith(word) for line in note), word
    rows = {"ablation": SETS[:1], "imagenet": ("100 epochs",)}.get(name.split("/")[0], SETS)
    for row in rows:
        [line] = [line for line in note if line.startswith(f"# {row} ")]
        assert re.search(r" (\d\d\.\d|unknown)  not run yet$", line), line


def test_there_is_an_experiment_for_every_row_of_the_published_tables() -> None:
    methods = {f"methods/{m}" for m in ("random", "simclr", "supcon", "mocov2", "mocov3", "dino", "idmm")}
    networks = ("deit_tiny", "deit_base", "pvt_v2_b0", "pvt_v2_b3", "t2t_vit_7")
    backbones = {f"backbones/{network}{start}" for network in networks for start in ("", "_random", "_imagenet")}
    ablation = {f"ablation/{row}" for row in ("none", "smoothing", "small", "multicrop", "cutmix")}
    of_pvt = {f"{pvt}_{m}" for pvt in ("pvt_v2_b0", "pvt_v2_b3") for m in ("idmm", "mocov3", "dino", "supervised")}
    transfer = {f"transfer/{row}" for row in of_pvt | {"t2t_vit_7_idmm", "t2t_vit_7_supervised"}}
    rows = ("pvt_v2_b0_random", "pvt_v2_b0_mocov3", "pvt_v2_b0_idmm", "deit_tiny_random", "deit_tiny_idmm")
    assert set(NAMES) == methods | backbones | ablation | transfer | {f"imagenet/{row}" for row in rows}


@pytest.mark.parametrize("dataset", ["pets", *(pytest.param(d, marks=pytest.mark.slow) for d in SETS[2:])])
def test_the_dataset_of_a_row_is_a_choice_and_all_its_training_images_train(dataset: str) -> None:
    found = stages("methods/idmm", "fixed", f"dataset={dataset}")
    assert {found[stage]["dataset"]["name"] for stage in STAGES} == {dataset}
    assert {found[stage]["dataset"]["validation"] for stage in STAGES} == {"none"}
    assert found["pretrain"]["dataset"]["std"] == [0.229, 0.224, 0.225]


CROPS = {"count": 2, "size_ratio": 1.0, "flip": 0.5, "gray": 0.2}
JITTER = {"probability": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}


def assert_holds(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """All expected values stand at their dotted paths."""
    there = dict(leaves(found))
    assert {path: there.get(path) for path in expected} == dict(expected)


def optimization(lr: float, warmup: int) -> dict[str, Any]:
    return {
        "optimizer._target_": "torch.optim.AdamW",
        "lr": lr,
        "lr_per_images": None,
        "schedule._target_": "smalldata_vit.schedules.CosineIDMM",
        "schedule.warmup_epochs": warmup,
        "weight_decay.value": 1e-3,
        "decays": "all",
        "clip_norm": None,
        "layer_decay": None,
    }


def test_pretraining_of_deit_tiny_is_the_published_one() -> None:
    found = stages("methods/idmm", "faithful")["pretrain"]
    course = {"epochs": 800.0, "batch_size": 256, "pass_size": 64, "drop_last": False, "image_size": 112}
    head = {"method.label_smoothing": 0.0, "method.ema_decay": None, "method.candidates": None}
    mixing = {"probability": 1.0, "cutmix_alpha": 0.5, "switch": "random", "cutmix_share": 1.0, "fold": True}
    colours = {"dataset.mean": [0.485, 0.456, 0.406], "dataset.std": [0.228, 0.224, 0.225]}
    mixed = {f"method.mixing.{key}": value for key, value in mixing.items()}
    assert_holds(found, course | head | mixed | colours | {"start_from": None, "arch.drop_path_rate": 0.1})
    assert_holds(found["optimization"], optimization(5e-4, 2))


@pytest.mark.parametrize(("group", "count", "scale"), [("global", 2, [0.14, 1.0]), ("local", 4, [0.05, 0.4])])
def test_the_crops_of_pretraining_are_the_published_ones(group: str, count: int, scale: list[float]) -> None:
    found = stages("methods/idmm", "faithful")["pretrain"]["views"]["groups"][group]
    assert {key: found[key] for key in CROPS} == CROPS | {"count": count}
    assert (found["crop"]["scale"], found["crop"]["interpolation"]) == (scale, "bilinear")
    assert {key: found["jitter"][key] for key in JITTER} == JITTER
    assert (found["blur"]["probability"], found["blur"]["radius"]) == (0.5, [0.1, 2.0])


@pytest.mark.parametrize(
    ("stage", "lr", "batch", "pixels", "epochs", "source"),
    [("finetune", 5e-4, 256, 224, 200.0, "pretrain"), ("finetune_448", 5e-5, 128, 448, 100.0, "finetune")],
)
def test_fine_tuning_of_deit_tiny_is_the_published_one(
    stage: str, lr: float, batch: int, pixels: int, epochs: float, source: str
) -> None:
    found = stages("methods/idmm", "faithful")[stage]
    course = {"epochs": epochs, "batch_size": batch, "drop_last": False, "image_size": pixels, "select": "last"}
    start = {"stage": source, "head": "new" if stage == "finetune" else "keep", "positions": "bicubic"}
    mixing = {"probability": 1.0, "mixup_alpha": 0.5, "cutmix_alpha": 0.5, "switch": "epoch_parity", "fold": True}
    expected = course | {f"start_from.{key}": value for key, value in start.items()}
    expected |= {f"method.mixing.{key}": value for key, value in mixing.items()}
    expected |= {"method.label_smoothing": 0.1, "dataset.std": [0.229, 0.224, 0.225], "arch.drop_path_rate": 0.1}
    assert_holds(found, expected | {"evaluation_view.mode": "shorter"})
    assert_holds(found["optimization"], optimization(lr, 2))
    assert round(pixels * found["evaluation_view"]["resize_ratio"]) == {224: 256, 448: 512}[pixels]


def test_the_views_of_fine_tuning_are_the_published_ones() -> None:
    found = stages("methods/idmm", "faithful")["finetune"]["views"]["groups"]["whole"]
    crop = {"crop.scale": [0.08, 1.0], "crop.interpolation": "bicubic", "flip": 0.5, "gray": 0.2}
    jitter = {"probability": 0.4, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    policy = {"_target_": "smalldata_vit.data.policies_uda.UDARandAugment", "probability": 0.5}
    expected = crop | {f"jitter.{key}": value for key, value in jitter.items()}
    assert_holds(found, expected | {f"policy.{key}": value for key, value in policy.items()})


@pytest.mark.parametrize("name", ["backbones/pvt_v2_b0", "backbones/t2t_vit_7"])
def test_pvt_and_t2t_are_trained_with_their_own_published_values(name: str) -> None:
    found, t2t = stages(name, "faithful"), name.endswith("t2t_vit_7")
    assert_holds(found["pretrain"]["optimization"], optimization(1e-3, 10))
    assert_holds(found["finetune"]["optimization"], optimization(1e-3, 10))
    assert_holds(found["finetune_448"]["optimization"], optimization(1.25e-5 if t2t else 5e-5, 10))
    assert found["pretrain"]["method"]["label_smoothing"] == 0.1
    assert found["pretrain"]["pass_size"] == (16 if t2t else 64)
    assert (found["finetune"]["epochs"], found["finetune_448"]["batch_size"]) == (800.0, 32 if t2t else 128)


def test_dino_has_two_crops_of_112_pixels_of_either_kind_and_its_own_values() -> None:
    found = stages("methods/dino", "faithful")["pretrain"]
    groups = found["views"]["groups"]
    shown = {name: (g["count"], g["size_ratio"], g["crop"]["scale"]) for name, g in groups.items()}
    assert shown == {"global": (2, 1.0, [0.4, 1.0]), "local": (2, 1.0, [0.05, 0.4])}
    course = {"epochs": 800.0, "batch_size": 256, "pass_size": 64, "image_size": 112}
    method = {"momentum.start": 0.996, "momentum.end": 1.0, "teacher_temperature.value": 0.04, "prototypes": 65536}
    method |= {"hidden": 2048, "bottleneck": 256, "batch_norm": False, "teacher_drop_path_rate": 0.0}
    rule = {"lr": 5e-4, "lr_per_images": 256, "schedule.warmup_epochs": 10, "schedule.floor": 1e-6, "clip_norm": 3.0}
    rule |= {"weight_decay.start": 0.04, "weight_decay.end": 0.4, "clip": "each"}
    expected = course | {f"method.{key}": value for key, value in method.items()}
    assert_holds(found, expected | {f"optimization.{key}": value for key, value in rule.items()})


TRUE = ("smalldata_vit.schedules.CosineIDMM", "smalldata_vit.schedules.WarmupCosine")
SCHEDULES = {f"{stage}.optimization.schedule._target_": TRUE for stage in STAGES}
STD = {"pretrain.dataset.std": ([0.228, 0.224, 0.225], [0.229, 0.224, 0.225])}
POSITIONS = {f"{stage}.start_from.positions": ("bicubic", "recomputed") for stage in STAGES[1:]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("methods/idmm", SCHEDULES | STD | {"pretrain.method.label_smoothing": (0.0, 0.1)}),
        ("backbones/pvt_v2_b0", SCHEDULES | STD),
        ("backbones/t2t_vit_7", SCHEDULES | STD | POSITIONS),
        ("ablation/none", SCHEDULES | STD),
        (
            "methods/dino",
            {f"{stage}.optimization.schedule._target_": TRUE for stage in STAGES[1:]}
            | {"finetune.start_from.weights": ("student", "teacher")},
        ),
    ],
)
def test_the_flavours_differ_in_the_slips_of_the_published_scripts_and_in_nothing_else(
    name: str, expected: dict[str, tuple[Any, Any]]
) -> None:
    assert changes(stages(name, "faithful"), stages(name, "fixed")) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("none", "smoothing", {"pretrain.method.label_smoothing": (0.0, 0.1)}),
        ("smoothing", "small", {"pretrain.image_size": (224, 112), "pretrain.arch.image_size": (224, 112)}),
        ("small", "multicrop", {"pretrain.views.groups.local.count": (0, 4)}),
    ],
)
def test_a_row_of_the_ablation_switches_one_component_on(
    before: str, after: str, expected: dict[str, tuple[Any, Any]]
) -> None:
    assert changes(stages(f"ablation/{before}"), stages(f"ablation/{after}")) == expected


def test_the_last_row_of_the_ablation_switches_cutmix_on() -> None:
    found = changes(stages("ablation/multicrop"), stages("ablation/cutmix"))
    assert {path for path in found if not path.startswith("pretrain.method.mixing")} == set()
    assert found["pretrain.method.mixing.cutmix_share"] == (None, 1.0)
    assert stages("ablation/multicrop")["pretrain"]["method"]["mixing"] is None


def test_with_all_components_on_the_ablation_is_idmm_itself() -> None:
    assert changes(stages("ablation/cutmix"), stages("methods/idmm")) == {}
    assert composed("ablation/cutmix", "fixed").stages == composed("methods/idmm", "fixed").stages


def test_pretraining_before_a_transfer_sees_sin10k_and_fine_tuning_the_other_set() -> None:
    found = stages("transfer/pvt_v2_b0_mocov3", "faithful", "pretrain.dataset.root=there")
    assert (found["pretrain"]["dataset"]["name"], found["pretrain"]["dataset"]["root"]) == ("sin10k", "there")
    assert (found["finetune"]["dataset"]["name"], found["finetune"]["dataset"]["root"]) == ("flowers102", None)
    assert_holds(found["finetune"]["optimization"], optimization(1e-3, 10))


def test_one_folder_of_imagenet_serves_pretraining_and_fine_tuning() -> None:
    found = stages("imagenet/deit_tiny_idmm", "faithful", "dataset.root=there")
    assert [found[stage]["dataset"]["root"] for stage in STAGES[:2]] == ["there", "there"]
    assert [found[stage]["dataset"]["name"] for stage in STAGES[:2]] == ["sin10k", "imagenet"]
    course = {"epochs": 100.0, "batch_size": 1024, "optimization.lr": 1e-3, "optimization.weight_decay.value": 0.05}
    assert_holds(found["finetune"], course | {"optimization.schedule._target_": TRUE[1]})


@pytest.mark.parametrize(("name", "epochs"), [("methods/random", 200.0), ("backbones/pvt_v2_b3_random", 800.0)])
def test_random_initialisation_is_fine_tuning_from_scratch(name: str, epochs: float) -> None:
    found = stages(name)["finetune"]
    assert list(composed(name, "fixed").stages) == ["finetune"]
    assert (found["start_from"], found["epochs"]) == (None, epochs)


@pytest.mark.parametrize(
    ("network", "named"),
    [("deit_tiny", "deit_tiny_patch16_224"), ("deit_base", "deit_base_patch16_224"), ("pvt_v2_b0", "pvt_v2_b0")],
)
def test_timms_weights_have_the_names_and_shapes_of_our_networks(network: str, named: str) -> None:
    import timm
    import torch
    from hydra.utils import instantiate

    found = stages(f"backbones/{network}_imagenet")["finetune"]
    assert found["start_from"]["timm"] == named
    with torch.device("meta"):
        ours, theirs = instantiate(found["arch"])().state_dict(), timm.create_model(named).state_dict()
    heads = ("head.weight", "head.bias")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items() if k not in heads}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twenty-four training and eight test images of 40 px in two class folders."""
    chance = np.random.default_rng(0)
    for number in range(32):
        place = tmp_path / "images" / ("train" if number < 24 else "test") / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return tmp_path / "images"


def test_the_three_stages_run_in_one_command_on_a_folder_of_images(tmp_path: Path, photographs: Path) -> None:
    small = ["arch.depth=1", "arch.width=16", "arch.heads=2", "pretrain.evaluator=[knn]", "trainer=cpu", "store=null"]
    small += [f"{stage}.image_size={pixels}" for stage, pixels in zip(STAGES, (32, 64, 96), strict=True)]
    small += [f"{stage}.{size}=8" for stage in STAGES for size in ("batch_size", "pass_size")]
    words = ["experiment=idmm/backbones/deit_tiny", "dataset=folder", f"dataset.root={photographs}", "debug=true"]
    succeed(*words, *small, f"output_dir={tmp_path / 'run'}")
    found = results(tmp_path / "run")["stages"]
    assert [found[stage]["status"] for stage in STAGES] == ["finished"] * 3
    grids = [found[stage]["hand_off"]["resized"]["pos_embed"] for stage in STAGES[1:]]
    assert grids == [[2, 4], [4, 6]]
    losses = [
        row.value for row in read_metrics(tmp_path / "run" / "pretrain" / "metrics.csv") if row.name == "train/loss"
    ]
    assert losses[0] == pytest.approx(2 * math.log(24), abs=0.05)
    assert 0 <= found["finetune_448"]["metrics"]["test/accuracy"] <= 1
