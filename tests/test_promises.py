"""The promises of the house, held on the real command line: resuming, passes and processes, hand-off, small sets."""

import os
import random
import signal
from pathlib import Path

import pytest
import torch
from command import (
    TINY,
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

PRETRAIN = (*TINY, "stages=[pretrain]", "pretrain.checkpoint_every_seconds=0", "pretrain.evaluate_every_epochs=1")
TWO_RANKS = ("trainer.devices=2", "pretrain.pass_size=32")


def kill_until_finished(words: tuple[str, ...], folder: Path, kills: int, seed: int) -> int:
    """Kill the command at random, each time after a newly saved step, then let it end; returns the kills that fell."""
    chance, fallen, before = random.Random(seed), 0, -1
    while fallen < kills:
        process = start(*words, f"output_dir={folder}")
        wanted = before + chance.randint(1, 12)
        if not wait_for(lambda wanted=wanted: saved_step(folder / "pretrain") >= wanted, process):
            kill_tree(process)
            break
        if process.poll() is None:
            kill_tree(process)
            after = saved_step(folder / "pretrain")
            assert after > before
            before, fallen = after, fallen + 1
    succeed(*words, f"output_dir={folder}")
    return fallen


@pytest.mark.parametrize(
    ("extra", "kills"),
    [((), 2), (TWO_RANKS, 1)],
    ids=["one process", "two ranks"],
)
def test_a_killed_and_resumed_stage_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, extra: tuple[str, ...], kills: int
) -> None:
    words = (*PRETRAIN, *extra, "pretrain.steps=60")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    assert kill_until_finished(words, tmp_path / "killed", kills, seed=0) == kills
    found = differences(checkpoint(tmp_path / "whole" / "pretrain"), checkpoint(tmp_path / "killed" / "pretrain"))
    assert found == []
    whole, killed = (results(tmp_path / name)["stages"]["pretrain"]["metrics"] for name in ("whole", "killed"))
    assert whole == killed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("extra", [(), TWO_RANKS], ids=["one process", "two ranks"])
def test_many_kills_in_a_row_leave_no_trace(tmp_path: Path, extra: tuple[str, ...], seed: int) -> None:
    words = (*PRETRAIN, *extra, "pretrain.steps=90")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    assert kill_until_finished(words, tmp_path / "killed", 5, seed) == 5
    found = differences(checkpoint(tmp_path / "whole" / "pretrain"), checkpoint(tmp_path / "killed" / "pretrain"))
    assert found == []


FINETUNE = (
    *TINY_SUPERVISED,
    "method=supervised",
    "finetune.views=one_crop",
    "method.mixing={_target_: smalldata_vit.parts.mixing.Mixing, probability: 1.0, mixup_alpha: 1.0, "
    "cutmix_alpha: 1.0, switch: random, cutmix_share: 0.5, fold: false}",
    "arch.drop_path_rate=0.3",
    "dataset.labels_per_class=null",
)


def test_fine_tuning_with_mixing_and_drop_path_resumes_bit_for_bit_after_a_kill(tmp_path: Path) -> None:
    words = (*FINETUNE, "finetune.steps=40", "finetune.checkpoint_every_seconds=0")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    process = start(*words, f"output_dir={tmp_path / 'killed'}")
    assert wait_for(lambda: saved_step(tmp_path / "killed" / "finetune") >= 9, process)
    kill_tree(process)
    succeed(*words, f"output_dir={tmp_path / 'killed'}")
    found = differences(checkpoint(tmp_path / "whole" / "finetune"), checkpoint(tmp_path / "killed" / "finetune"))
    assert found == []


FOUR_PASSES = (*TINY, "stages=[pretrain]", "pretrain.steps=8", "pretrain.pass_size=16")
SMOOTH = "optimization.optimizer.eps=0.01"
"""AdamW's usual eps turns the rounding of a gradient that is exactly zero (a key's bias) into steps of full length."""


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        ((*FOUR_PASSES, "method.batch_norm=true", f"pretrain.{SMOOTH}"), "pretrain"),
        ((*FOUR_PASSES, "method.batch_norm=false", f"pretrain.{SMOOTH}"), "pretrain"),
        ((*FINETUNE, "finetune.steps=8", "finetune.pass_size=16", f"finetune.{SMOOTH}"), "finetune"),
    ],
    ids=["DINO with BatchNorm", "DINO without", "fine-tuning with CutMix and drop path"],
)
def test_four_passes_in_one_process_equal_two_passes_in_each_of_two(
    tmp_path: Path, words: tuple[str, ...], stage: str
) -> None:
    """Tolerance 2e-6: the ranks add the same float32 gradients in another order."""
    succeed(*words, f"output_dir={tmp_path / 'one'}")
    succeed(*words, "trainer.devices=2", f"output_dir={tmp_path / 'two'}")
    one, two = (checkpoint(tmp_path / name / stage)["state_dict"] for name in ("one", "two"))
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[name], value, rtol=2e-6, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_between_steps_and_leaves_with_its_status_and_the_command_that_continues(
    tmp_path: Path, number: int, status: int
) -> None:
    words = (*TINY, "pretrain.steps=100000", "stages=[pretrain,finetune]", f"output_dir={tmp_path / 'run'}")
    process = start(*words)
    metrics = tmp_path / "run" / "pretrain" / "metrics.csv"
    assert wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert saved_step(tmp_path / "run" / "pretrain") > 0
    assert f"output_dir={tmp_path / 'run'}" in said.splitlines()[-1]
    assert results(tmp_path / "run")["status"] == "interrupted"


def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path: Path) -> None:
    words = (*PRETRAIN, "pretrain.steps=30")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    process = start(*words, f"output_dir={tmp_path / 'hurt'}")
    stage = tmp_path / "hurt" / "pretrain"
    assert wait_for(lambda: saved_step(stage) >= 10, process)
    kill_tree(process)
    newest = sorted((stage / "checkpoints").glob("step_*.ckpt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    done = succeed(*words, f"output_dir={tmp_path / 'hurt'}")
    assert newest.name in done.stdout + done.stderr
    found = differences(checkpoint(tmp_path / "whole" / "pretrain"), checkpoint(stage))
    assert found == []


def test_two_stages_in_one_command_hand_over_skip_and_refuse_what_changed(tmp_path: Path) -> None:
    words = (*TINY, "pretrain.steps=4", "finetune.steps=4", f"output_dir={tmp_path / 'run'}")
    succeed(*words)
    found = results(tmp_path / "run")
    assert found["status"] == "finished"
    stages = found["stages"]
    assert stages["finetune"]["start_from"]["source"] == "pretrain"
    assert len(stages["finetune"]["start_from"]["sha256"]) == 64
    report = stages["finetune"]["hand_off"]
    assert len(report["loaded"]) > 10
    assert report["new"] == report["left_over"] == []
    assert 0 <= stages["finetune"]["metrics"]["test/accuracy"] <= 1
    again = succeed(*words)
    assert again.stdout.count("skipped") == 2
    changed = run(*words, "finetune.optimization.lr=0.123")
    assert changed.returncode != 0
    assert "optimization.lr" in changed.stderr
    assert "0.123" in changed.stderr
    misfit = run(*words, "finetune.arch.width=32", "stages=[finetune]", f"output_dir={tmp_path / 'run'}")
    assert misfit.returncode != 0


def test_the_hand_off_refuses_an_encoder_that_does_not_fit_and_names_both_shapes(tmp_path: Path) -> None:
    words = (*TINY, "pretrain.steps=2", "finetune.steps=2", "finetune.arch.width=32", f"output_dir={tmp_path / 'run'}")
    done = run(*words)
    assert done.returncode != 0
    assert "16" in done.stderr
    assert "32" in done.stderr
    assert "shape" in done.stderr
    assert results(tmp_path / "run")["stages"]["finetune"]["status"] == "failed"


def test_fine_tuning_without_its_pretraining_is_refused_and_not_trained_from_scratch(tmp_path: Path) -> None:
    done = run(*TINY, "stages=[finetune]", f"output_dir={tmp_path / 'run'}")
    assert done.returncode != 0
    assert "starts from pretrain" in done.stderr
    assert "finetune.start_from=null" in done.stderr


@pytest.mark.parametrize("method", ["dino", "supervised"])
def test_two_epochs_on_37_images_with_batch_64_train_judge_and_log(tmp_path: Path, method: str) -> None:
    from PIL import Image

    chance = random.Random(0)
    for number in range(47):
        split = "train" if number < 37 else "test"
        folder = tmp_path / "images" / split / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        grey = Image.new("RGB", (8, 8), (chance.randrange(256), 255 * (number % 2), 9))
        grey.save(folder / f"{number}.png")
    tiny = TINY if method == "dino" else TINY_SUPERVISED
    stage = "pretrain" if method == "dino" else "finetune"
    done = succeed(
        *tiny,
        f"method={method}",
        "dataset=folder",
        f"dataset.root={tmp_path / 'images'}",
        "dataset.image_size=8",
        "dataset.validation=0.2",
        f"stages=[{stage}]",
        f"{stage}.epochs=2",
        f"{stage}.steps=null",
        f"{stage}.batch_size=64",
        f"{stage}.pass_size=null",
        f"{stage}.evaluate_every_epochs=1",
        f"{stage}.start_from=null",
        f"{stage}.passes_per_epoch=1",
        f"output_dir={tmp_path / 'run'}",
    )
    found = results(tmp_path / "run")["stages"][stage]
    assert found["steps"] == 2
    assert any(name.startswith("test/") for name in found["metrics"])
    assert "batch_size=64 is more than" in done.stdout + done.stderr
    assert "train/loss" in (tmp_path / "run" / stage / "metrics.csv").read_text()
