"""A finished stage is found again without torch, and only if its own process would say the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import ROOT, TINY_SUPERVISED, environment, results
from PIL import Image

from smalldata_vit import known_splits, skipping, store
from smalldata_vit.checkpoints import Checkpoints, checkpoint_name
from smalldata_vit.results import write_json
from smalldata_vit.start import Source

HASH = "a" * 64
SCRATCH: dict[str, Any] = {"stage": "finetune", "start_from": None}
ASKED = {"weights": "encoder", "head": "new", "positions": "none"}


@pytest.fixture(autouse=True)
def _known_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_splits, "recalled", lambda config: HASH)


def finished(folder: Path, key: str, **more: object) -> None:
    """What a finished stage leaves, as far as skipping looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    write_json(folder / "key.json", key)
    outcome = {"status": "finished", "key": key, "selected": {"rule": "last"}, "metrics": {"test/accuracy": 0.5}}
    write_json(folder / "stage.json", outcome | more)


def saved(folder: Path) -> Path:
    path = folder / "checkpoints" / checkpoint_name(3)
    position = {"step": 3, "total_steps": 3}
    Checkpoints("hash").save_checkpoint({"position": position, "encoder": {"w": torch.zeros(1)}}, path)
    return path


def test_a_finished_stage_in_the_output_folder_is_found(tmp_path: Path) -> None:
    finished(tmp_path / "finetune", store.stage_key("config", HASH, "scratch"))
    found = skipping.finished_before(SCRATCH, "config", tmp_path, None)
    assert found is not None
    assert found["metrics"] == {"test/accuracy": 0.5}


def test_a_finished_stage_in_the_store_is_found_and_linked(tmp_path: Path) -> None:
    key = store.stage_key("config", HASH, "scratch")
    finished(tmp_path / "store" / f"finetune-{key[:16]}", key)
    (tmp_path / "run").mkdir()
    assert skipping.finished_before(SCRATCH, "config", tmp_path / "run", str(tmp_path / "store")) is not None
    assert (tmp_path / "run" / "finetune" / "stage.json").exists()


@pytest.mark.parametrize("change", ["config", "data", "unfinished", "damaged", "other key in stage.json"])
def test_anything_else_is_left_to_the_stages_own_process(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, key = tmp_path / "finetune", store.stage_key("config", HASH, "scratch")
    finished(folder, key)
    if change == "data":
        monkeypatch.setattr(known_splits, "recalled", lambda config: None)
    if change == "unfinished":
        finished(folder, key, status="interrupted")
    if change == "damaged":
        (folder / "stage.json").write_text("{")
    if change == "other key in stage.json":
        finished(folder, key)
        write_json(folder / "stage.json", {"status": "finished", "key": "b" * 64})
    asked = "other" if change == "config" else "config"
    assert skipping.finished_before(SCRATCH, asked, tmp_path, None) is None


def test_a_folder_where_the_link_belongs_is_left_to_the_stages_own_process(tmp_path: Path) -> None:
    key = store.stage_key("config", HASH, "scratch")
    finished(tmp_path / "store" / f"finetune-{key[:16]}", key)
    finished(tmp_path / "run" / "finetune", key)
    assert skipping.finished_before(SCRATCH, "config", tmp_path / "run", str(tmp_path / "store")) is None


@pytest.mark.parametrize("kind", ["scratch", "stage", "file"])
def test_the_key_of_a_source_is_the_one_that_the_stage_itself_computes(tmp_path: Path, kind: str) -> None:
    finished(tmp_path / "pretrain", "b" * 64)
    path = saved(tmp_path / "pretrain")
    start_from = {
        "scratch": None,
        "stage": {"stage": "pretrain", "file": None, **ASKED},
        "file": {"stage": None, "file": str(path), **ASKED},
    }[kind]
    assert skipping.source_key(start_from, tmp_path) == Source.find(start_from, tmp_path).key


@pytest.mark.parametrize("lost", ["checkpoint", "its bytes", "the stage"])
def test_a_stage_whose_source_is_no_longer_whole_is_not_skipped(tmp_path: Path, lost: str) -> None:
    finished(tmp_path / "pretrain", "b" * 64)
    path = saved(tmp_path / "pretrain")
    config = {"stage": "finetune", "start_from": {"stage": "pretrain", "file": None, **ASKED}}
    key = skipping.source_key(config["start_from"], tmp_path)
    assert key is not None
    finished(tmp_path / "finetune", store.stage_key("config", HASH, key))
    assert skipping.finished_before(config, "config", tmp_path, None) is not None
    if lost == "checkpoint":
        path.unlink()
    elif lost == "its bytes":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        (tmp_path / "pretrain" / "stage.json").unlink()
    assert skipping.finished_before(config, "config", tmp_path, None) is None


def test_the_command_skips_without_torch_and_notices_another_image(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "images" / ("train" if number < 6 else "test") / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 255 * (number % 2), 9)).save(folder / f"{number}.png")
    words = (
        *TINY_SUPERVISED,
        *("method=supervised", "dataset=folder", f"dataset.root={tmp_path / 'images'}", "dataset.image_size=8"),
        *("dataset.validation=none", "finetune.steps=1", "finetune.evaluate_every_epochs=null"),
        *("finetune.batch_size=4", f"output_dir={tmp_path / 'run'}"),
    )

    def run() -> tuple[subprocess.CompletedProcess[str], set[str]]:
        line = [sys.executable, "-X", "importtime", str(ROOT / "run.py"), *words]
        done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240)
        lines = [entry for entry in done.stderr.splitlines() if entry.startswith("import time:")]
        return done, {entry.rpartition("|")[2].strip() for entry in lines}

    first, imported = run()
    assert first.returncode == 0, first.stderr[-3000:]
    assert "torch" in imported
    before = results(tmp_path / "run")
    again, imported = run()
    assert again.returncode == 0
    assert "skipped" in again.stdout
    assert imported & {"torch", "torchvision", "lightning", "timm", "sklearn", "PIL"} == set()
    assert results(tmp_path / "run") == before
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "images/train/class0/new.png")
    changed, imported = run()
    assert changed.returncode == 1
    assert "the images" in changed.stderr
    assert "torch" in imported
