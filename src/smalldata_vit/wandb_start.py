"""How the process that talks to W&B comes to be: with the run's id, and with a temporary folder of its own."""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path


def temporary_folder() -> Path:
    """A new folder for what wandb and its service put into the system's temporary one, to be removed with all in it.

    They would clean up themselves when Python ends in order. Here it must not, because it would wait for the service
    without a limit, and a service that is killed cannot. So whoever is the last to leave removes it: the process, or
    who killed that.
    """
    return Path(tempfile.mkdtemp(prefix="wandb-"))  # short: the path of the service's socket has at most 107 bytes


def start_process(folder: Path, temporary: Path) -> "subprocess.Popen[str]":
    """The process, which removes its temporary folder when it ends; `folder` is the stage's."""
    # A session of its own: Ctrl-C is for the training, which then ends the run in order.
    command = [sys.executable, "-m", "smalldata_vit.wandb_process", str(temporary)]
    with (folder / "wandb.log").open("a") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            # Tables and weights wait for their upload beside the run, where `wandb sync` finds them, not in the home.
            env={"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "WANDB_DATA_DIR": str(folder.resolve())}
            | os.environ
            | {"TMPDIR": str(temporary)},
            text=True,
            start_new_session=True,
        )


def run_id(folder: Path) -> str:
    """The id of the stage's run, the same each time the stage goes on; in a sweep of W&B's the one its agent gave."""
    folder.mkdir(parents=True, exist_ok=True)
    if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
        return os.environ["WANDB_RUN_ID"]  # wandb takes no other then
    file = folder / "wandb_id"
    if not file.exists():
        file.write_text(secrets.token_hex(6))
    return file.read_text().strip()
