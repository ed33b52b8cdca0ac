"""What W&B is told of a stage: flat config, labels, tags, speed, costs of all stages, exit status."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from smalldata_vit import config as configuration
from smalldata_vit.wandb_facts import (
    Speed,
    described,
    exit_code,
    flat,
    labels,
    outcome_since,
    summary,
    tags,
    written,
)


def test_a_config_becomes_one_level_with_the_keys_that_one_types() -> None:
    nested = {
        "optimization": {"lr": 0.1, "betas": [0.9, 0.99]},
        "parts": [{"name": "a"}, {"name": "b"}],
        "guidance": {},
    }
    assert flat(nested) == {
        "optimization.lr": 0.1,
        "optimization.betas": [0.9, 0.99],
        "parts.0.name": "a",
        "parts.1.name": "b",
    }


def test_a_run_is_labelled_by_the_options_of_its_stage_and_the_method_of_the_experiment() -> None:
    cfg = configuration.compose(["guidance=constant", "logger=[csv,wandb]"])
    config = configuration.stage_config(cfg, "finetune")
    told = described("finetune", "g", config, ["mine"], config["logger"]["wandb"]["chosen"])
    expected = {"method": "dino", "dataset": "digits", "arch": "vit_digits", "guidance": "constant"}
    assert {key: told["config"][key] for key in expected} == expected
    assert {"mine", "method=dino", "views=digits_repeated"} <= set(told["tags"])
    assert (told["name"], told["config"]["method._target_"]) == (
        "g finetune seed 0",
        "smalldata_vit.methods.supervised.Supervised",
    )
    assert all(not isinstance(value, dict) for value in told["config"].values())


def test_the_guide_of_an_experiment_is_labelled_as_unguided() -> None:
    cfg = configuration.compose(["guidance=constant", "logger=[csv,wandb]"])
    found = labels("guide", configuration.stage_config(cfg, "guide"), cfg.chosen)
    assert (found["guidance"], found["arch"]) == ("none", "resnet20")


def test_a_published_experiment_and_its_flavour_are_labels() -> None:
    cfg = configuration.compose(["experiment=gani/vit_cifar10"])
    found = labels("finetune", configuration.stage_config(cfg, "finetune"), cfg.chosen)
    assert (found["experiment"], found["flavour"], found["dataset"]) == ("gani/vit_cifar10", "fixed", "cifar10")


def test_a_judgement_does_not_pretend_to_know_the_method_of_what_it_judges() -> None:
    chosen = {"method": "dino", "method@evaluate.method": "supervised", "experiment": "gani/corruptions"}
    found = labels("evaluate", {"dataset": {"name": "cifar10"}}, chosen)
    assert found == {"experiment": "gani/corruptions", "dataset": "cifar10"}


def test_tags_are_no_longer_than_wandb_takes_and_come_once() -> None:
    assert tags(["a", "a", "b" * 80, ""], {"guidance": "none", "method": "idmm"}) == ["a", "b" * 64, "method=idmm"]


def test_flops_a_second_count_the_guide_only_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "begun.json").write_text(json.dumps({"flops_per_image": 10.0, "flops_per_image_unguided": 6.0}))
    speed, pace = Speed(tmp_path, peak=200.0), {"train/images_per_second": 5.0}
    rates = [speed.of(pace | {"train/guidance_on": on}) for on in (1.0, 0.5, 0.0)]
    assert [rate["train/flops_per_second"] for rate in rates] == [50.0, 40.0, 30.0]
    assert [rate["train/share_of_peak"] for rate in rates] == [0.25, 0.2, 0.15]
    assert speed.of({"val/accuracy": 0.5}) == {}


def test_without_a_peak_there_is_no_share_of_it(tmp_path: Path) -> None:
    (tmp_path / "begun.json").write_text(json.dumps({"flops_per_image": 10.0}))
    assert Speed(tmp_path, peak=None).of({"train/images_per_second": 2.0}) == {"train/flops_per_second": 20.0}


def left(folder: Path, key: str, sources: dict[str, str]) -> dict[str, Any]:
    """A finished stage that cost 10 seconds."""
    outcome: dict[str, Any] = {"status": "finished", "key": key, "seconds": 10.0, "flops": 1e9, "images_seen": 100}
    outcome |= {name: {"source": source} for name, source in sources.items()}
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(outcome))
    return outcome


def test_the_cost_of_a_run_is_that_of_all_stages_before_it_counted_once(tmp_path: Path) -> None:
    left(tmp_path / "guide", "g", {})
    left(tmp_path / "pretrain", "p", {})
    left(tmp_path / "finetune", "f", {"start_from": "pretrain", "guide": "guide"})
    last = left(tmp_path / "finetune_448", "f4", {"start_from": "finetune", "guide": "guide"})
    told = summary(last, tmp_path)
    assert (told["cost/seconds"], told["cost/total_seconds"], told["cost/total_images"]) == (10.0, 40.0, 400)


def test_weights_from_the_file_of_another_run_bring_their_cost_with_them(tmp_path: Path) -> None:
    left(tmp_path / "other" / "pretrain", "p", {})
    file = tmp_path / "other" / "pretrain" / "checkpoints" / "step_1.ckpt"
    file.parent.mkdir()
    file.touch()
    last = left(tmp_path / "run" / "finetune", "f", {"start_from": str(file)})
    assert summary(last, tmp_path / "run")["cost/total_seconds"] == 20.0


def test_weights_of_timm_cost_nothing_that_is_known(tmp_path: Path) -> None:
    assert summary(left(tmp_path / "f", "f", {"start_from": "timm's vit"}), None)["cost/total_seconds"] == 10.0


def test_a_failed_stage_is_summed_up_with_its_error_and_no_whole_cost() -> None:
    told = summary({"status": "failed", "error": "NonFiniteLoss: step 2"}, None)
    assert told == {"status": "failed", "error": "NonFiniteLoss: step 2"}


def test_numbers_that_are_none_stay_out_of_the_summary() -> None:
    assert "val/accuracy" not in summary({"status": "failed", "metrics": {"val/accuracy": None}}, None)


@pytest.mark.parametrize(
    ("outcome", "failed", "code"),
    [
        ({"status": "finished"}, False, 0),
        ({"status": "failed"}, False, 1),
        ({"status": "interrupted", "exit_status": 143}, False, 143),
        ({}, False, 0),
        ({}, True, 1),
    ],
)
def test_wandb_gets_the_exit_status_of_the_stage(outcome: dict[str, Any], failed: bool, code: int) -> None:
    assert exit_code(outcome, failed) == code


def test_an_outcome_that_an_earlier_process_left_is_not_taken_for_this_one(tmp_path: Path) -> None:
    left(tmp_path / "f", "f", {})
    before = written(tmp_path / "f")
    assert outcome_since(before, tmp_path / "f") == {}
    os.utime(tmp_path / "f" / "stage.json", ns=(1, 1))
    assert outcome_since(before, tmp_path / "f")["status"] == "finished"
