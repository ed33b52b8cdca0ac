"""TensorBoard for one stage."""

import atexit
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from smalldata_vit.results import plain, without_secrets


def tensorboard(folder: Path, stage: str, group: str, config: Mapping[str, Any]) -> TensorBoardLogger:
    """A logger that writes into the stage's folder `tensorboard`, with the stage's config as its first text.

    ModuleNotFoundError, with what to install, when the optional dependency is missing.
    """
    try:
        logger = TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("logger=tensorboard needs `pip install smalldata-vit[tensorboard]`") from error
    text = json.dumps(without_secrets(plain(config)), indent=2)
    logger.experiment.add_text(f"{group}/{stage}", f"```json\n{text}\n```", 0)
    # Test numbers come after Lightning has closed the file; without this they would stay in a buffer.
    atexit.register(logger.finalize, "success")
    return logger
