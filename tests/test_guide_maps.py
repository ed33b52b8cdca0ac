"""guidance.features=stored on the real command line: files, what is said of them, and what training makes of them."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from command import (
    TINY_SUPERVISED,
    checkpoint,
    differences,
    kill_tree,
    results,
    saved_step,
    start,
    succeed,
    wait_for,
)

from smalldata_vit import guide_maps
from smalldata_vit.journal import Journal
from smalldata_vit.manifests import newest_whole
from smalldata_vit.results import read_json

WORDS = (
    *TINY_SUPERVISED,
    "method=supervised",
    "dataset.labels_per_class=null",
    "guidance=decay",
    "guide.steps=4",
    "guide.arch.depth=8",
    "guide.arch.width=4",
    "finetune.steps=12",
    "finetune.evaluate_every_epochs=null",
)
STORED, WHOLE = "guidance.features=stored", "finetune.views=plain"
BYTES = 4 * 1197 * (4 * 8 * 8 + 8 * 4 * 4 + 16 * 2 * 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with stored maps of views that are the whole images."""
    folder = tmp_path_factory.mktemp("stored") / "run"
    succeed(*WORDS, STORED, WHOLE, f"output_dir={folder}")
    return folder


def trained_guide(folder: Path) -> str:
    found = newest_whole(folder / "guide" / "checkpoints")
    assert found is not None
    return f"guide.start_from.file={found.path}"


def test_the_size_is_said_before_and_the_files_are_gone_behind(finished: Path) -> None:
    log = (finished / "finetune" / "log.txt").read_text()
    assert f"({BYTES:,} bytes)" in log
    assert log.index("are free") < log.index("the guide looked at 1,197 images") < log.index("the guide does not run")
    assert not (finished / "finetune" / guide_maps.FOLDER).exists()


def test_the_stage_says_what_guidance_cost_in_its_record_its_metrics_and_its_log(finished: Path) -> None:
    record = results(finished)["stages"]["finetune"]["guidance"]
    assert (record["steps_on"], record["steps_off"]) == (4, 8)
    assert record["seconds_per_step_on"] > 0
    assert record["seconds_saved"] == pytest.approx(
        8 * (record["seconds_per_step_on"] - record["seconds_per_step_off"])
    )
    assert "train/guidance_seconds_saved" in (finished / "finetune" / "metrics.csv").read_text()
    assert "guidance: 4 steps on of" in (finished / "finetune" / "log.txt").read_text()
    assert "guidance" not in results(finished)["stages"]["guide"]


@pytest.fixture(scope="module")
def live(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with the guide itself."""
    folder = tmp_path_factory.mktemp("live") / "run"
    succeed(*WORDS, WHOLE, trained_guide(finished), f"output_dir={folder}")
    return folder


def test_of_whole_images_stored_maps_train_the_student_that_the_live_guide_trains(finished: Path, live: Path) -> None:
    one, other = (checkpoint(folder / "finetune")["state_dict"] for folder in (finished, live))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_steps_are_charged_for_the_guide_while_it_runs_and_stored_maps_for_one_look_at_each_image(
    finished: Path, live: Path
) -> None:
    spent, costs = {}, {}
    for name, folder in {"stored": finished, "live": live}.items():
        record = results(folder)["stages"]["finetune"]
        costs[name] = read_json(folder / "finetune" / "begun.json")
        on, off = costs[name]["flops_per_image"], costs[name]["flops_per_image_unguided"]
        spent[name] = record["flops"] - record["images_seen"] * (4 * on + 8 * off) / 12
    assert spent["live"] == pytest.approx(0.0, abs=1.0)
    guide = costs["live"]["flops_per_image"] - costs["stored"]["flops_per_image"]
    assert spent["stored"] == pytest.approx(1197 * guide, rel=1e-6)


def test_maps_that_do_not_fit_on_the_disk_are_refused_before_any_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 10**6))
    with pytest.raises(ValueError, match=r"2\.0 MB \(2,000,000 bytes\).*1\.0 MB are free: guidance\.features=live"):
        guide_maps.refuse_if_too_large(2_000_000, 10, tmp_path, Journal(None, "finetune"))


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stage_0.bin").write_bytes(b"\0" * 12)
    with pytest.raises(ValueError, match="does not hold"):
        guide_maps.opened(tmp_path / "stage_0.bin", (1, 4))


@pytest.mark.slow
def test_a_stage_with_stored_maps_that_was_killed_and_resumed_equals_the_uninterrupted_one(
    finished: Path, tmp_path: Path
) -> None:
    """Once with its files still there, once without them."""
    words = (*WORDS, STORED, trained_guide(finished), "finetune.steps=90", "finetune.checkpoint_every_seconds=0")
    succeed(*words, f"output_dir={tmp_path / 'whole'}")
    stage = tmp_path / "killed" / "finetune"
    for wanted in (7, 25):
        process = start(*words, f"output_dir={tmp_path / 'killed'}")
        assert wait_for(lambda wanted=wanted: saved_step(stage) >= wanted, process)
        kill_tree(process)
        assert saved_step(stage) < 90
    assert (stage / guide_maps.FOLDER / "index.json").exists()
    shutil.rmtree(stage / guide_maps.FOLDER)
    succeed(*words, f"output_dir={tmp_path / 'killed'}")
    assert differences(checkpoint(tmp_path / "whole" / "finetune"), checkpoint(stage)) == []


@pytest.mark.slow
def test_two_ranks_with_stored_maps_equal_one_process(finished: Path, tmp_path: Path) -> None:
    """Tolerance 2e-6: the ranks add the same float32 gradients in another order."""
    words = (*WORDS, STORED, trained_guide(finished), "finetune.pass_size=16")
    words = (*words, "finetune.optimization.optimizer.eps=0.01")
    succeed(*words, f"output_dir={tmp_path / 'one'}")
    succeed(*words, "trainer.devices=2", f"output_dir={tmp_path / 'two'}")
    one, two = (checkpoint(tmp_path / name / "finetune")["state_dict"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=2e-6, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")
