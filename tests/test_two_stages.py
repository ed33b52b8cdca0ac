"""Two stages in one command: the hand-off, what is skipped, what is refused, and very small sets."""

import random
from pathlib import Path

import pytest
import torch
from command import TINY, TINY_SUPERVISED, results, run, succeed

from smalldata_vit.manifests import newest_whole


def words(folder: Path, *more: str) -> tuple[str, ...]:
    """Two stages whose pretraining can be taken from a store."""
    return (*TINY, f"store={folder / 'store'}", "pretrain.steps=4", "finetune.steps=4", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and beside it a run of both stages."""
    folder = tmp_path_factory.mktemp("two")
    succeed(*words(folder, f"output_dir={folder / 'run'}"))
    return folder


def test_two_stages_in_one_command_hand_over(finished: Path) -> None:
    found = results(finished / "run")
    assert found["status"] == "finished"
    stages = found["stages"]
    assert stages["finetune"]["start_from"]["source"] == "pretrain"
    assert len(stages["finetune"]["start_from"]["sha256"]) == 64
    report = stages["finetune"]["hand_off"]
    assert len(report["loaded"]) > 10
    assert report["new"] == report["left_over"] == []
    assert 0 <= stages["finetune"]["metrics"]["test/accuracy"] <= 1


def test_finished_stages_are_skipped_and_what_changed_is_refused(finished: Path) -> None:
    typed = words(finished, f"output_dir={finished / 'run'}")
    again = succeed(*typed)
    assert again.stdout.count("skipped") == 2
    changed = run(*typed, "finetune.optimization.lr=0.123")
    assert changed.returncode != 0
    assert "optimization.lr" in changed.stderr
    assert "0.123" in changed.stderr


def test_the_hand_off_refuses_an_encoder_that_does_not_fit_and_names_both_shapes(
    finished: Path, tmp_path: Path
) -> None:
    done = run(*words(finished, "finetune.arch.width=32", f"output_dir={tmp_path / 'run'}"))
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
        f"{stage}.select=best",
        f"output_dir={tmp_path / 'run'}",
    )
    found = results(tmp_path / "run")["stages"][stage]
    assert found["steps"] == 2
    assert found["selected"]["rule"] == "best"
    assert any(name.startswith("test/") for name in found["metrics"])
    assert "batch_size=64 is more than" in done.stdout + done.stderr
    assert "train/loss" in (tmp_path / "run" / stage / "metrics.csv").read_text()


def test_a_loss_that_is_no_number_stops_the_stage_names_the_step_and_keeps_what_was_saved_before(
    tmp_path: Path,
) -> None:
    words = (*TINY, "stages=[pretrain]", "pretrain.steps=400", "pretrain.checkpoint_every_seconds=0")
    done = run(*words, "pretrain.optimization.lr=1e30", f"output_dir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "is not finite" in done.stderr
    found = results(tmp_path / "run")
    assert found["status"] == found["stages"]["pretrain"]["status"] == "failed"
    assert "NonFiniteLoss: step" in found["error"]
    whole = newest_whole(tmp_path / "run" / "pretrain" / "checkpoints")
    weights = {} if whole is None else torch.load(whole.path, weights_only=True)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in weights.values())
