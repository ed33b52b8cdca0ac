"""A stage in the store that several commands want: what those that waited for it do with how it ended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from smalldata_vit import running, store
from smalldata_vit.data.splits import Splits
from smalldata_vit.start import Source

MAKE = """
import json, sys, time
from pathlib import Path
from smalldata_vit.output import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(0.5)
    Path(sys.argv[2]).write_text(sys.argv[3])
"""
CONFIG: Any = {"stage": "pretrain", "hash": "a", "learner": {}}
SPLITS: Any = Mock(spec=Splits, split_hash="b")
SOURCE: Any = Mock(spec=Source, key="c")
KEY = store.stage_key("a", "b", "c")


def settled_behind(tmp_path: Path, left: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `settle` gives while another process holds the stage and leaves this outcome."""
    monkeypatch.setattr(running, "lead", lambda *_: {"status": "finished", "key": KEY, "by": "us"})
    folder = store.stage_folder(tmp_path, "pretrain", str(tmp_path / "store"), KEY)
    lock = folder.parent / f".{folder.name}.lock"
    command = [sys.executable, "-c", MAKE, str(lock), str(folder / "stage.json"), json.dumps(left)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        return running.settle(CONFIG, SPLITS, SOURCE, tmp_path, str(tmp_path / "store"), [])


def test_a_stage_that_failed_fails_those_that_waited_for_it_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match=r"failed where it was made, .*: no image is left"):
        settled_behind(tmp_path, {"status": "failed", "key": KEY, "error": "no image is left"}, monkeypatch)


def test_a_stage_whose_maker_was_killed_is_made_by_who_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled_behind(tmp_path, {"status": "running", "key": KEY}, monkeypatch)["by"] == "us"


def test_a_failure_of_an_earlier_command_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.stage_folder(tmp_path, "pretrain", str(tmp_path / "store"), KEY)
    (folder / "stage.json").write_text(json.dumps({"status": "failed", "key": KEY, "error": "the disk was full"}))
    monkeypatch.setattr(running, "lead", lambda *_: {"status": "finished", "key": KEY, "by": "us"})
    outcome = running.settle(CONFIG, SPLITS, SOURCE, tmp_path, str(tmp_path / "store"), [])
    assert outcome["by"] == "us"
