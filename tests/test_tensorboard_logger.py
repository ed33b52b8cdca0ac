from pathlib import Path

import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from smalldata_vit.tensorboard_logger import tensorboard


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers_after_the_end_of_training_and_the_config_without_secrets_are_kept(tmp_path: Path) -> None:
    logger = tensorboard(tmp_path, "pretrain", "dino_digits", {"epochs": 3, "api_key": "planted"})
    logger.log_metrics({"train/loss": 0.5}, 10)
    logger.finalize("success")
    logger.log_metrics({"test/accuracy": 0.75}, 20)
    logger.finalize("success")
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(10, 0.5)]
    assert [(event.step, event.value) for event in found.Scalars("test/accuracy")] == [(20, 0.75)]
    written = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard").iterdir() if file.is_file())
    assert b"epochs" in written
    assert b"planted" not in written
