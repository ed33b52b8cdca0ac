"""Pictures and tables for W&B, from files as a stage leaves them."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalldata_vit import wandb_media

FAR = 200


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def flat_pictures(count: int, side: int, grey: int) -> np.ndarray:
    return np.full((count, side, side, 3), grey, np.uint8)


def test_a_row_of_views_begins_with_what_evaluation_sees(tmp_path: Path) -> None:
    groups = {
        "views_global": np.stack([flat_pictures(2, 16, 100)] * 2),
        "views_local": np.stack([flat_pictures(1, 8, 200)] * 2),
    }
    np.savez(tmp_path / "views.npz", index=np.array([7, 9]), plain=flat_pictures(2, 16, 30), **groups)
    first, second = wandb_media.views(tmp_path)["media/views"]
    pixels = np.array(first.image)
    step = wandb_media.TILE + wandb_media.GAP
    assert [int(pixels[5, 5 + place * step, 0]) for place in range(4)] == [30, 100, 100, 200]
    assert (first._caption, second._caption[:2]) == ("7: as evaluated; global: 2 of 16 px; local: 1 of 8 px", "9:")


def test_a_stage_without_views_has_no_picture_of_them(tmp_path: Path) -> None:
    assert wandb_media.views(tmp_path) == {}


def outcome_with(counts: list[list[int]]) -> dict[str, object]:
    return {"evaluators": {"accuracy": {"confusion": counts}}}


def test_the_classes_mixed_up_most_come_first() -> None:
    found = wandb_media.confusion(outcome_with([[8, 2, 0], [0, 9, 1], [5, 0, 5]]), ["cat", "dog", "owl"])
    assert found["media/mixed_up"].data == [["owl", "cat", 5, 0.5], ["cat", "dog", 2, 0.2], ["dog", "owl", 1, 0.1]]


def test_a_confusion_matrix_is_stronger_where_more_images_are() -> None:
    drawn = wandb_media.colours(np.array([[9, 1], [0, 10]])).astype(int)
    assert drawn[1, 1].tolist() == list(wandb_media.RIGHT)
    assert drawn[1, 0].tolist() == [255, 255, 255]
    assert wandb_media.RIGHT[0] < drawn[0, 0, 0] < 255


@pytest.mark.parametrize("classes", [3, 20, 21, FAR])
def test_a_confusion_matrix_of_any_size_is_a_readable_picture(classes: int) -> None:
    counts = (np.eye(classes, dtype=int) * 5).tolist()
    picture = wandb_media.confusion(outcome_with(counts), [])["media/confusion"].image
    assert min(picture.size) >= min(wandb_media.LEAST_SIDE, classes * wandb_media.CELL)


def test_a_stage_that_names_no_classes_has_no_confusion_matrix() -> None:
    assert wandb_media.confusion({"evaluators": {"knn": {"k": 20}}}, []) == {}


def test_mistakes_stand_in_a_table_with_their_picture_and_both_probabilities(tmp_path: Path) -> None:
    arrays = {
        "test_mistakes": np.array([[4, 0, 1]], np.int32),
        "test_odds": np.array([[0.25, 0.75]], np.float16),
        "test_pictures": flat_pictures(1, 8, 60),
    }
    np.savez(tmp_path / "predictions.npz", **arrays)
    table = wandb_media.mistakes(tmp_path, ["cat", "dog"])["media/mistakes"]
    [[picture, *row]] = table.data
    assert row == ["test", 4, "cat", "dog", 0.25, 0.75]
    assert np.array(picture.image).tolist() == arrays["test_pictures"][0].tolist()
    assert table.columns == list(wandb_media.MISTAKE)


def test_a_stage_without_a_mistake_has_no_table_of_them(tmp_path: Path) -> None:
    assert wandb_media.mistakes(tmp_path, []) == {}


def test_attention_that_cannot_be_drawn_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="a warning\nno attention map in ResNet\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match=r"^no attention map in ResNet$"):
        wandb_media.attention(tmp_path, 2, seconds=60)


def test_attention_that_takes_too_long_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="took more than 0 s"):
        wandb_media.attention(tmp_path, 2, seconds=0.05)


def test_the_artifact_holds_the_weights_that_were_selected(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("step_00000009", "best_00000003", "best_00000005"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").write_bytes(name.encode())
    outcome = {"selected": {"rule": "best", "step": 5}, "metrics": {"test/accuracy": 0.5}, "seed": 1}
    artifact = wandb_media.checkpoint(tmp_path, outcome, "g-finetune-1")
    assert list(artifact.manifest.entries) == ["best_00000005.ckpt"]
    assert artifact.metadata["metrics"] == {"test/accuracy": 0.5}
    assert not list((tmp_path / "data").rglob("*.ckpt"))


def test_a_row_keeps_the_pixels_of_small_images() -> None:
    checks = np.indices((8, 8)).sum(0) % 2 * 255
    row = wandb_media.in_a_row([np.stack([checks] * 3, -1).astype(np.uint8)])
    assert isinstance(row, Image.Image)
    assert set(np.array(row).flatten().tolist()) == {0, 255}
