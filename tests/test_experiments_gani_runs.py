"""Runs of experiments of Gani et al. (BMVC 2022): what they record, test images that judge, corruptions."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import yaml
from command import results, succeed
from PIL import Image

from smalldata_vit.data.dataset import Dataset
from smalldata_vit.data.folders import Folders
from smalldata_vit.metrics import read_metrics


def class_folders(root: Path) -> str:
    """Two classes of small pictures, six of each to train on and three to test with."""
    for split, count in (("train", 6), ("test", 3)):
        for number in range(2 * count):
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shade = (20 * number + 100 * (split == "test")) % 256
            Image.new("RGB", (16, 16), (shade, 250 * (number % 2), 7 * number)).save(folder / f"{number}.png")
    return f"dataset.root={root}"


TINY = (
    "trainer=cpu", "store=null", "dataset=folder", "dataset.image_size=16", "arch.patch_size=4", "arch.depth=2",
    "arch.width=16", "arch.heads=2", "method.prototypes=32", "method.hidden=16", "pretrain.evaluator=[knn]",
)  # fmt: skip


def test_a_debug_run_of_a_cell_goes_through_both_stages_and_says_what_it_was(tmp_path: Path) -> None:
    words = ("experiment=gani/vit_cifar10", *TINY, "debug=true", class_folders(tmp_path / "images"))
    succeed(*words, f"output_dir={tmp_path / 'run'}")
    found = results(tmp_path / "run")
    assert (found["experiment"], found["flavour"], found["name"]) == ("gani/vit_cifar10", "fixed", "gani_vit_folder")
    assert {name: one["validation"] for name, one in found["stages"].items()} == {
        "pretrain": "none",
        "finetune": "none",
    }
    assert "test/accuracy" in found["stages"]["finetune"]["metrics"]


def test_the_faithful_flavour_selects_on_test_its_last_epoch_included_and_the_result_says_so(tmp_path: Path) -> None:
    words = ("experiment=gani/vit_cifar10", "flavour=faithful", *TINY, class_folders(tmp_path / "images"))
    words = (*words, "stages=[finetune]", "finetune.start_from=null", "finetune.epochs=1", "finetune.batch_size=36")
    succeed(*words, "finetune.pass_size=null", f"output_dir={tmp_path / 'run'}")
    found = results(tmp_path / "run")
    stage = found["stages"]["finetune"]
    assert (found["flavour"], stage["validation"]) == ("faithful", "test")
    assert stage["selected"] == {"rule": "best", "step": stage["steps"]}
    assert not any(name.startswith("val/") for name in stage["metrics"])
    rows = read_metrics(tmp_path / "run" / "finetune" / "metrics.csv")
    assert [row.value for row in rows if row.name == "val/accuracy"] == [stage["metrics"]["test/accuracy"]]


def test_test_images_that_judge_are_no_validation_split_for_whoever_chooses_or_fits(tmp_path: Path) -> None:
    class_folders(tmp_path)
    judged, other = (made(tmp_path, validation).load(0) for validation in ("test", "none"))
    assert (judged.validation, judged.val, len(judged.train)) == ("test", None, 12)
    assert judged.record["validation"] == "test"
    assert judged.split_hash == other.split_hash
    assert [made(tmp_path, v).load(0).validation for v in ("none", 0.25)] == ["none", "carved"]


def test_a_sets_own_validation_images_are_left_alone_where_test_images_judge(tmp_path: Path) -> None:
    class_folders(tmp_path)
    shutil.copytree(tmp_path / "test", tmp_path / "val")
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "val" / "a" / "0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert made(tmp_path, "test").load(0).val is None


def test_test_images_cannot_judge_where_there_are_none(tmp_path: Path) -> None:
    class_folders(tmp_path)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(ValueError, match=r"dataset.validation=test: dataset made has no test images"):
        made(tmp_path, "test").load(0)


def made(root: Path, validation: float | str) -> Dataset:
    """The class folders below a root, as a dataset."""
    return Dataset(
        name="made", source=Folders(), layout="folder", root=str(root), cache=str(root.parent / "cache"),
        num_classes=None, num_train=None, num_test=None, mean=None, std=None, image_size=16, validation=validation,
        validation_seed=0, merge_validation=False, labels_per_class=None, fraction=1.0, on_bad_image="error",
        most_bad_images=0.0, most_shared=1.0, drop_shared=False, shorter_side=None, scaled_jpeg=False,
        decoded="cache", cache_limit=None, workers="auto",
    )  # fmt: skip


DIGITS = ("trainer=cpu", "store=null", "method=supervised", "arch.depth=1", "arch.width=16", "arch.heads=2")


def test_a_finished_run_is_judged_under_corruptions_with_the_statistics_that_were_measured(tmp_path: Path) -> None:
    words = (f"output_dir={tmp_path / 'run'}", "evaluate.evaluator.corruptions.most_images=8")
    succeed(*DIGITS, "debug=true", "finetune.pixel_baseline=false", words[0])
    succeed("stages=[evaluate]", "evaluator=[accuracy,corruptions]", "trainer=cpu", "store=null", *words)
    stage = results(tmp_path / "run")["stages"]["evaluate"]
    errors = stage["evaluators"]["corruptions"]["errors"]
    assert (len(errors), {len(each) for each in errors.values()}) == (15, {5})
    assert 0 <= stage["metrics"]["test/corruption_error"] <= 1
    written, data = ((tmp_path / "run" / name).read_text() for name in ("evaluate/config.yaml", "finetune/data.json"))
    source = yaml.safe_load(written)["evaluator"]["corruptions"]["source"]
    assert (source["mean"], source["std"]) == tuple(json.loads(data)[name] for name in ("mean", "std"))
