"""A stage that trains nothing, and the start from files of others, on the real command line."""

from pathlib import Path

import pytest
import torch
from command import TINY, checkpoint, results, run, succeed

from smalldata_vit.manifests import newest_whole

SHORT = (
    "pretrain.steps=2",
    "finetune.steps=3",
    "finetune.evaluate_every_epochs=null",
    "pretrain.evaluate_every_epochs=null",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pretraining and fine-tuning of another seed and size than the defaults."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    succeed(*TINY, *SHORT, "seed=3", f"output_dir={folder}")
    return folder


def saved(folder: Path) -> Path:
    found = newest_whole(folder / "checkpoints")
    assert found is not None
    return found.path


def test_a_finished_run_is_judged_anew_as_it_was_trained_with_nothing_repeated_but_where_it_is(finished: Path) -> None:
    before = results(finished)
    words = ("stages=[evaluate]", "trainer=cpu", "store=null", "evaluator=[accuracy,knn]", f"output_dir={finished}")
    succeed(*words)
    after = results(finished)
    judged, trained = after["stages"]["evaluate"], after["stages"]["finetune"]
    assert {name: judged["metrics"][name] for name in trained["metrics"]} == trained["metrics"]
    assert "test/knn_accuracy" in judged["metrics"]
    assert (after["seed"], after["name"], judged["steps"]) == (before["seed"], before["name"], 0)
    assert judged["start_from"]["source"] == "finetune"
    assert judged["from_scratch"] is trained["from_scratch"] is True
    assert "skipped" in succeed(*words).stdout
    assert results(finished)["stages"]["evaluate"] == judged


@pytest.mark.slow
def test_a_checkpoint_is_judged_in_a_folder_of_its_own(finished: Path, tmp_path: Path) -> None:
    words = ("stages=[evaluate]", "trainer=cpu", "store=null", f"output_dir={tmp_path / 'run'}")
    succeed(*words, f"evaluate.start_from.file={saved(finished / 'finetune')}")
    judged = results(tmp_path / "run")["stages"]["evaluate"]
    assert judged["metrics"] == results(finished)["stages"]["finetune"]["metrics"]


@pytest.mark.slow
def test_judging_pretraining_asks_for_evaluators_that_can(finished: Path, tmp_path: Path) -> None:
    words = ("stages=[evaluate]", "trainer=cpu", "store=null", f"output_dir={tmp_path / 'run'}")
    words = (*words, f"evaluate.start_from.file={saved(finished / 'pretrain')}")
    refused = run(*words)
    assert refused.returncode != 0
    assert "evaluator accuracy cannot judge DINO" in refused.stderr
    succeed(*words, "evaluator=[knn]")
    judged, trained = (
        results(f)["stages"][s]["metrics"] for f, s in ((tmp_path / "run", "evaluate"), (finished, "pretrain"))
    )
    assert judged == trained


@pytest.mark.slow
def test_training_and_judging_in_one_command_agree_and_are_skipped_together(tmp_path: Path) -> None:
    words = (*TINY, *SHORT, "stages=[pretrain,finetune,evaluate]", f"output_dir={tmp_path / 'run'}")
    succeed(*words)
    stages = results(tmp_path / "run")["stages"]
    assert stages["evaluate"]["metrics"] == stages["finetune"]["metrics"]
    assert succeed(*words).stdout.count("skipped") == 3


def test_a_head_is_kept_and_positions_grow_through_three_stages(tmp_path: Path) -> None:
    small = (
        "finetune.image_size=16",
        "finetune_448.image_size=32",
        "finetune_448.steps=1",
        "finetune_448.batch_size=64",
    )
    words = (*TINY, *SHORT, *small, "finetune_448.optimization.lr=0.0", "finetune_448.views=plain")
    words = (*words, "finetune_448.optimization.weight_decay.value=0.0", "finetune_448.method.mixing=null")
    succeed(*words, "stages=[pretrain,finetune,finetune_448]", f"output_dir={tmp_path / 'run'}")
    stages = results(tmp_path / "run")["stages"]
    assert stages["finetune"]["hand_off"]["resized"] == {"pos_embed": [4, 8]}
    assert stages["finetune_448"]["hand_off"]["resized"] == {"pos_embed": [8, 16]}
    assert stages["finetune_448"]["start_from"]["head"] == "keep"
    before, after = (checkpoint(tmp_path / "run" / name)["head"] for name in ("finetune", "finetune_448"))
    assert torch.equal(before["weight"], after["weight"])


@pytest.mark.slow
def test_a_foreign_file_is_started_from_by_name_and_its_origin_stays_unknown(finished: Path, tmp_path: Path) -> None:
    encoder = checkpoint(finished / "pretrain")["teacher"]
    theirs = {f"backbone.{name}": value for name, value in encoder.items()} | {"predictor.weight": torch.zeros(2)}
    torch.save({"teacher": theirs | {"mlphead.mlp.0.bias": torch.zeros(2)}, "epoch": 1}, tmp_path / "gani.pth")
    words = (*TINY, *SHORT, "stages=[finetune]", f"finetune.start_from.file={tmp_path / 'gani.pth'}")
    words = (*words, f"output_dir={tmp_path / 'run'}")
    refused = run(*words)
    assert refused.returncode != 0
    assert "predictor.weight is left over" in refused.stderr
    succeed(*words, "finetune.start_from.left_over=[predictor.*]", f"output_dir={tmp_path / 'declared'}")
    found = results(tmp_path / "declared")["stages"]["finetune"]
    assert (found["start_from"]["format"], found["from_scratch"]) == ("gani", None)
    assert found["hand_off"]["left_over"] == ["predictor.weight", "mlphead.mlp.0.bias"]
