"""What makes training fast or small changes no result, on the real command line."""

import json
import re
from pathlib import Path

import pytest
import torch
from command import FINETUNE, TINY, checkpoint, differences, succeed
from hydra.utils import instantiate

from smalldata_vit import config
from smalldata_vit.assembly import build_method
from smalldata_vit.contracts import DataFacts
from smalldata_vit.hardware import speed_up

PRETRAIN = (*TINY, "stages=[pretrain]", "pretrain.steps=6", "method.batch_norm=false", "arch.drop_path_rate=0.3")


def weights(folder: Path, stage: str = "pretrain") -> dict:
    return {key: checkpoint(folder / stage)[key] for key in ("state_dict", "optimizer_states")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed") / "plain"
    succeed(*PRETRAIN, f"output_dir={folder}")
    return folder


@pytest.mark.parametrize("word", ["trainer.checkpoint_activations=true", "trainer.steps_at_once=1"])
def test_these_change_no_bit(tmp_path: Path, plain: Path, word: str) -> None:
    succeed(*PRETRAIN, word, f"output_dir={tmp_path / 'run'}")
    assert differences(weights(plain), weights(tmp_path / "run")) == []


def test_a_batch_that_fits_goes_through_whole_and_the_log_says_so(tmp_path: Path, plain: Path) -> None:
    succeed(*PRETRAIN, "trainer.max_batch=auto", f"output_dir={tmp_path / 'run'}")
    assert differences(weights(plain), weights(tmp_path / "run")) == []
    assert json.loads((tmp_path / "run" / "pretrain" / "begun.json").read_text())["max_batch"] == 64
    assert "64 images in one forward fit" in (tmp_path / "run" / "pretrain" / "log.txt").read_text()


def test_the_log_says_which_path_runs(plain: Path) -> None:
    (line,) = [line for line in (plain / "pretrain" / "log.txt").read_text().splitlines() if "DINO on" in line]
    for said in ("precision 32-true", "attention SDPA", "AdamW fused", "network eager", "images on the CPU"):
        assert said in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trainer.compile=true",), "trainer.compile=true chooses by itself which activations are kept"),
        (("arch=resnet20",), "cannot recompute its activations: trainer.checkpoint_activations=false"),
    ],
)
def test_where_activations_cannot_be_recomputed_it_is_said(words: tuple[str, ...], says: str) -> None:
    others = [word for word in FINETUNE if not word.startswith("arch.")]
    stage = config.stage_config(config.compose([*others, *words, "trainer.checkpoint_activations=true"]), "finetune")
    facts = DataFacts(20, 3, stage["image_size"], (0.5,) * 3, (0.25,) * 3)
    views = instantiate(stage["views"], _convert_="all")(
        image_size=facts.image_size, dataset_mean=facts.mean, dataset_std=facts.std
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        speed_up(build_method(stage, facts), views, stage["trainer"], torch.device("cpu"))


@pytest.mark.slow
def test_a_compiled_run_ends_where_the_eager_one_does(tmp_path: Path, plain: Path) -> None:
    """Six steps; the roundings differ."""
    succeed(*PRETRAIN, "trainer.compile=true", f"output_dir={tmp_path / 'run'}")
    compiled = checkpoint(tmp_path / "run" / "pretrain")["state_dict"]
    for name, value in checkpoint(plain / "pretrain")["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
