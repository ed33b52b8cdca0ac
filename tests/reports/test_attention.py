"""The command on folders as finished runs leave them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from smalldata_vit import config
from smalldata_vit.assembly import build_method, facts_of, load_data
from smalldata_vit.checkpoints import Checkpoints, checkpoint_name
from smalldata_vit.learner import handed_on
from smalldata_vit.reports import attention

TINY = ("arch.depth=2", "arch.width=16", "arch.heads=2", "method.prototypes=32", "method.hidden=16")


def finished(folder: Path, stage: str, *words: str) -> Path:
    """A stage's folder with the weights that it would start from."""
    cfg = config.compose([*TINY, "dataset=digits", *words])
    settings = config.stage_config(cfg, stage)
    method = build_method(settings, facts_of(settings, load_data(settings)))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "stage.json").write_text(
        json.dumps({"status": "finished", "key": "k", "selected": {"rule": "last", "step": 3}})
    )
    state = {"position": {"step": 3, "total_steps": 3}, **handed_on(method)}
    Checkpoints("h").save_checkpoint(state, folder / "checkpoints" / checkpoint_name(3))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run that pretrains and fine-tunes, and one from scratch."""
    root = tmp_path_factory.mktemp("outputs")
    finished(root / "dino" / "pretrain", "pretrain")
    finished(root / "dino" / "finetune", "finetune", "arch.pooling=class_token")
    finished(root / "scratch" / "finetune", "finetune", "finetune.start_from=null")
    return [root / "dino", root / "scratch"]


def test_pictures_and_numbers_of_every_stage_are_written(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert attention.main([*map(str, runs), "--images", "2"]) == 0
    into = runs[0] / "attention"
    assert sorted(f.name for f in into.iterdir()) == [
        "attention.json",
        "attention.png",
        "heads_0.png",
        "heads_180.png",
        "kept.png",
        "rollout.png",
    ]
    assert all(np.asarray(Image.open(f)).std() > 5 for f in into.glob("*.png"))
    found = json.loads((into / "attention.json").read_text())
    assert [one["name"] for one in found["networks"]] == [
        "dino: pretrained without labels",
        "dino: fine-tuned from pretrain",
        "scratch: from scratch",
    ]
    assert len(found["images"]) == 2
    assert str(into) in capsys.readouterr().out


def test_the_network_that_is_shown_has_the_weights_of_the_checkpoint(runs: list[Path]) -> None:
    one = attention.load(runs[0] / "finetune")
    saved = torch.load(runs[0] / "finetune" / "checkpoints" / checkpoint_name(3), weights_only=True)["encoder"]
    assert all(torch.equal(value, saved[name]) for name, value in one.network.state_dict().items())
    assert not one.network.training


def test_what_is_drawn_is_the_test_image_itself(runs: list[Path]) -> None:
    one = attention.load(runs[1] / "finetune")
    assert one.splits.test is not None
    pixels = one.splits.test.take(torch.tensor([5]))
    torch.testing.assert_close(one.shown([5]), pixels.float() / 255)


def test_with_masks_the_overlap_of_every_network_is_written(runs: list[Path], tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for place in (3, 9):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[2:6, 2:6] = 255
        Image.fromarray(pixels).save(masks / f"{place}.png")
    assert attention.main([str(runs[1]), "--masks", str(masks), "--into", str(tmp_path / "out")]) == 0
    (one,) = json.loads((tmp_path / "out" / "attention.json").read_text())["networks"]
    assert one["masks"] == 2
    assert 0 <= one["overlap_mean_over_heads"] <= 1
    assert 0 < one["overlap_best_head"] <= 1
    assert {f.name for f in (tmp_path / "out").glob("heads*")} == {"heads_3.png", "heads_9.png"}


def test_a_folder_without_a_finished_stage_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attention.main([str(tmp_path)]) == 1
    assert "holds no finished stage" in capsys.readouterr().err
