"""Processes that train do not load wandb, though timm would."""

import subprocess
import sys

import pytest

CHECK = """
import sys
from smalldata_vit.wandb_unseen import without_wandb
with without_wandb():
    import timm
print("timm" in sys.modules, "wandb" in sys.modules)
import wandb
print(wandb.__name__)
"""


def test_timm_does_not_find_wandb_and_who_wants_it_afterwards_does() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True", "False", "wandb"]


def test_a_stage_does_not_load_wandb() -> None:
    code = "import sys; from smalldata_vit.stages import stage_runner; stage_runner(); print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False"]


def test_wandb_that_is_loaded_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from smalldata_vit.wandb_unseen import without_wandb

    loaded = object()
    monkeypatch.setitem(sys.modules, "wandb", loaded)  # type: ignore[arg-type]
    with without_wandb():
        assert sys.modules["wandb"] is loaded
