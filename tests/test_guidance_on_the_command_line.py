"""A CNN is trained, then guides: stages, hand-over, resuming and ranks, on the real command line."""

import csv
from pathlib import Path

import pytest
import torch
from command import (
    TINY_SUPERVISED,
    checkpoint,
    differences,
    kill_tree,
    results,
    run,
    saved_step,
    start,
    succeed,
    wait_for,
)

from smalldata_vit.config import check, compose, stage_config
from smalldata_vit.manifests import newest_whole

TINY_GUIDED = (
    *TINY_SUPERVISED,
    "method=supervised",
    "arch.drop_path_rate=0.3",
    "dataset.labels_per_class=null",
    "guide.steps=4",
    "guide.arch.depth=8",
    "guide.arch.width=4",
    "finetune.steps=12",
    "finetune.evaluate_every_epochs=null",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guided run whose weight is 0 from the fifth of its twelve steps on."""
    folder = tmp_path_factory.mktemp("guided") / "run"
    succeed(*TINY_GUIDED, "guidance=decay", f"output_dir={folder}")
    return folder


def trained_guide(folder: Path) -> str:
    found = newest_whole(folder / "guide" / "checkpoints")
    assert found is not None
    return f"guide.start_from.file={found.path}"


def numbers(folder: Path, name: str) -> dict[int, float]:
    """A number of metrics.csv by step."""
    with (folder / "metrics.csv").open() as file:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["name"] == name}


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (["method=supervised", "guidance=decay"], ["guide", "finetune"]),
        (["method=supervised", "guidance=decay", "dataset=cifar100"], ["guide", "finetune"]),
        (["method=dino", "guidance=adaptive"], ["guide", "pretrain", "finetune"]),
        (["method=supervised", "guidance=constant", "guide.start_from.file=x.ckpt"], ["finetune"]),
        (["method=supervised", "guidance=constant", "stages=[finetune]"], ["finetune"]),
        (["method=supervised", "finetune.guidance=decay"], ["guide", "finetune"]),
        (["method=supervised"], ["finetune"]),
    ],
)
def test_guidance_brings_the_stage_guide_unless_a_trained_cnn_is_named(words: list[str], stages: list[str]) -> None:
    cfg = compose(words)
    check(cfg)
    assert list(cfg.stages) == stages


def test_what_is_said_of_the_student_at_the_root_is_not_said_of_the_guide() -> None:
    words = ["method=supervised", "guidance=decay", "dataset=cifar100", "image_size=64", "method.label_smoothing=0.3"]
    cfg = compose(words)
    guide, student = stage_config(cfg, "guide"), stage_config(cfg, "finetune")
    assert (student["image_size"], student["method"]["label_smoothing"]) == (64, 0.3)
    assert (guide["image_size"], guide["method"]["label_smoothing"], guide["method"]["mixing"]) == (32, 0.0, None)
    assert student["guidance"]["image_size"] == 32
    assert student["guidance"]["guide"] == guide["arch"]


def test_the_guide_has_its_own_run_values_on_every_dataset() -> None:
    cfg = compose(["method=supervised", "guidance=decay", "guide.image_size=16"])
    assert stage_config(cfg, "finetune")["guidance"]["image_size"] == 16
    assert (cfg.guide.epochs, cfg.guide.steps) == (None, 300)
    assert compose(["guidance=decay", "dataset=cifar100"]).guide.epochs == 300


def test_a_guided_stage_without_its_guide_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    done = run(*TINY_GUIDED, "guidance=decay", "stages=[finetune]", f"output_dir={tmp_path / 'run'}")
    assert done.returncode != 0
    for said in ("is guided by the CNN of the stage guide", "guide.start_from.file=", "finetune.guidance=none"):
        assert said in done.stderr


def test_both_stages_run_and_the_student_receives_the_trained_guide_bit_for_bit(finished: Path) -> None:
    found = results(finished)
    assert found["status"] == "finished"
    assert found["stages"]["finetune"]["guide"]["source"] == "guide"
    trained, student = checkpoint(finished / "guide"), checkpoint(finished / "finetune")["state_dict"]
    prefix = "method.guidance.guide.network."
    received = {name.removeprefix(prefix): value for name, value in student.items() if name.startswith(prefix)}
    assert differences(dict(trained["encoder"]), received) == []


def test_weight_and_share_of_guidance_are_written_down_and_end_with_the_decay(finished: Path) -> None:
    weights = numbers(finished / "finetune", "train/guidance_weight")
    assert [weights[step] for step in range(1, 13)] == pytest.approx([2.5, 1.875, 1.25, 0.625] + [0.0] * 8)
    shares = numbers(finished / "finetune", "train/guidance_share")
    assert sorted(shares) == [1, 2, 3, 4]
    assert all(0 < share < 1 for share in shares.values())


@pytest.mark.slow
def test_a_named_trained_guide_gives_what_the_stage_guide_gave(finished: Path, tmp_path: Path) -> None:
    succeed(*TINY_GUIDED, "guidance=decay", trained_guide(finished), f"output_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "guide").exists()
    one, other = (checkpoint(folder / "finetune")["state_dict"] for folder in (finished, tmp_path / "run"))
    assert differences(one, other) == []


@pytest.mark.slow
def test_finished_guided_stages_are_skipped_and_another_guide_is_refused(finished: Path, tmp_path: Path) -> None:
    words = (*TINY_GUIDED, "guidance=decay", f"output_dir={finished}")
    assert succeed(*words).stdout.count("skipped") == 2
    succeed(*TINY_GUIDED, "stages=[guide]", "guide.steps=5", f"output_dir={tmp_path / 'other'}")
    changed = run(*words, trained_guide(tmp_path / "other"))
    assert changed.returncode != 0
    assert "was made with other settings" in changed.stderr


@pytest.mark.slow
def test_guidance_of_weight_zero_leaves_the_weights_of_no_guidance(finished: Path, tmp_path: Path) -> None:
    zero = ("guidance=constant", "guidance.weight.value=0.0", trained_guide(finished))
    succeed(*TINY_GUIDED, *zero, f"output_dir={tmp_path / 'zero'}")
    succeed(*TINY_GUIDED, f"output_dir={tmp_path / 'none'}")
    one, other = (checkpoint(tmp_path / name / "finetune")["state_dict"] for name in ("zero", "none"))
    assert differences({name: value for name, value in one.items() if "guidance" not in name}, other) == []


ADAPTIVE = (
    "guidance=adaptive",
    "guidance.controller.window=2",
    "guidance.controller.threshold=-1e-3",
    "guidance.bn_mode=train",
    "finetune.pass_size=32",
    "finetune.steps=90",
    "finetune.checkpoint_every_seconds=0",
)


@pytest.mark.slow
def test_a_guided_stage_that_was_killed_and_resumed_equals_the_uninterrupted_one(
    finished: Path, tmp_path: Path
) -> None:
    """With the controller's memory and a guide whose batch statistics move."""
    words = (*TINY_GUIDED, *ADAPTIVE, trained_guide(finished))
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    stage = tmp_path / "killed" / "finetune"
    for wanted in (7, 25):
        process = start(*words, f"output_dir={tmp_path / 'killed'}")
        assert wait_for(lambda wanted=wanted: saved_step(stage) >= wanted, process)
        kill_tree(process)
        assert saved_step(stage) < 90
    succeed(*words, f"output_dir={tmp_path / 'killed'}")
    whole = checkpoint(tmp_path / "whole" / "finetune")
    assert differences(whole, checkpoint(stage)) == []
    assert int(whole["state_dict"]["method.guidance.controller.epochs"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_two_ranks_across_the_switch_equal_one_process(finished: Path, tmp_path: Path, bn_mode: str) -> None:
    """Tolerance 2e-6: the ranks add the same float32 gradients in another order."""
    smooth = "finetune.optimization.optimizer.eps=0.01"
    words = (*TINY_GUIDED, "guidance=decay", f"guidance.bn_mode={bn_mode}", "finetune.pass_size=16", smooth)
    words = (*words, trained_guide(finished))
    succeed(*words, f"output_dir={tmp_path / 'one'}")
    succeed(*words, "trainer.devices=2", f"output_dir={tmp_path / 'two'}")
    one, two = (checkpoint(tmp_path / name / "finetune")["state_dict"] for name in ("one", "two"))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[name], value, rtol=2e-6, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.slow
def test_two_ranks_let_the_controller_decide_the_same_and_go_on_behind_it(finished: Path, tmp_path: Path) -> None:
    words = (*TINY_GUIDED, *ADAPTIVE, "guidance.controller.threshold=-1e9", trained_guide(finished))
    succeed(*words, "trainer.devices=2", f"output_dir={tmp_path / 'two'}")
    state = checkpoint(tmp_path / "two" / "finetune")["state_dict"]
    assert not bool(state["method.guidance.controller.guides"])
    assert int(state["method.guidance.controller.epochs"]) == 2
