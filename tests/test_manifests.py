import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from smalldata_vit.checkpoints import Checkpoints
from smalldata_vit.manifests import CheckpointError, checkpoint_name, clean, newest_whole, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of the steps 20 and 32."""
    for step in (20, 32):
        weights = torch.randn(2_000, generator=torch.Generator().manual_seed(step))
        data = {"position": {"step": step, "total_steps": 90}, "weights": weights}
        Checkpoints("abc").save_checkpoint(data, tmp_path / checkpoint_name(step))
    return tmp_path


def falls_back(folder: Path, damaged: bytes) -> bool:
    """Whether the newest checkpoint, with these bytes, is noticed and the one before it used."""
    (folder / checkpoint_name(32)).write_bytes(damaged)
    found = newest_whole(folder)
    return found is not None and (found.step, found.steps_lost) == (20, 12) and len(found.damaged) == 1


def test_the_newest_checkpoint_is_found_with_its_facts(folder: Path) -> None:
    found = newest_whole(folder)
    assert found is not None
    assert (found.path, found.step, found.total_steps) == (folder / "step_00000032.ckpt", 32, 90)
    assert (found.config_hash, found.damaged, found.steps_lost) == ("abc", (), 0)
    assert newest_whole(folder, "best") is None
    assert newest_whole(folder / "nowhere") is None


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda data: data[: len(data) // 2], "bytes instead of"),
        (lambda data: b"", "it has 0 bytes instead of"),
        (lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "its bytes are not those that were written"),
        (lambda data: data[:4096] + bytes(4096) + data[8192:], "its bytes are not those that were written"),
    ],
    ids=["truncated", "emptied", "one bit flipped", "a page of zeros"],
)
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_is_used(
    folder: Path, damage: Callable[[bytes], bytes], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="smalldata_vit")
    path = folder / checkpoint_name(32)
    assert falls_back(folder, damage(path.read_bytes()))
    (said,) = caplog.messages
    assert f"{path} is damaged" in said
    assert named in said
    assert said.endswith("step_00000020.ckpt is used instead: 12 step(s) are done again")
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoints("abc").load_checkpoint(path)


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_truncated_anywhere_it_is_never_used(folder: Path, count: int) -> None:
    data = (folder / checkpoint_name(32)).read_bytes()
    assert all(falls_back(folder, data[: len(data) * i // count]) for i in range(count))
    assert falls_back(folder, data[:-1])


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_with_any_bit_flipped_it_is_never_used(folder: Path, count: int) -> None:
    data, chance = (folder / checkpoint_name(32)).read_bytes(), random.Random(0)
    for _ in range(count):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        assert falls_back(folder, bytes(flipped))


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"sha256": "0"}'], ids=["gone", "empty", "torn", "list", "short"]
)
def test_without_a_whole_manifest_it_is_not_trusted(folder: Path, text: str | None) -> None:
    path = folder / "step_00000032.ckpt.json"
    path.unlink() if text is None else path.write_text(text)
    found = newest_whole(folder)
    assert found is not None
    assert found.step == 20


def test_when_none_is_whole_the_log_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="smalldata_vit")
    for path in folder.glob("*.ckpt"):
        path.write_bytes(b"")
    assert newest_whole(folder) is None
    assert caplog.messages[0].endswith("No whole checkpoint is left: 32 step(s) are lost")


def test_what_a_killed_writer_left_is_removed_and_nothing_else(folder: Path) -> None:
    kept = sorted(folder.iterdir())
    (folder / ".123-ab.unfinished").write_bytes(b"half")
    (folder / "step_00000040.ckpt.json").write_text(json.dumps({"sha256": "of a file that never came"}))
    clean(folder)
    assert sorted(folder.iterdir()) == kept


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"step_00000007\.ckpt does not exist"):
        verify(tmp_path / checkpoint_name(7))
