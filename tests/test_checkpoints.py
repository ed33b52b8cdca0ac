import errno
import hashlib
import json
import os
import random
import signal
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from omegaconf import OmegaConf

from smalldata_vit import atomic, checkpoints
from smalldata_vit.checkpoints import CheckpointError, Checkpoints, checkpoint_name, newest_whole

forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def content(step: int, size: int = 300) -> dict[str, Any]:
    """Some plain data whose tensors tell the step."""
    return {
        "position": {"step": step, "total_steps": 100},
        "state_dict": OrderedDict(weight=torch.full((size,), float(step)), bias=torch.arange(3)),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2), "step": 3.0}}, "param_groups": [{"lr": 0.1}]}],
        "note": "täxt",
    }


def save(folder: Path, step: int, size: int = 300) -> Path:
    path = folder / checkpoint_name(step)
    Checkpoints("abc").save_checkpoint(content(step, size), path)
    return path


def holds(path: Path, step: int) -> bool:
    read = Checkpoints("abc").load_checkpoint(path)
    return bool((read["state_dict"]["weight"] == step).all()) and read["position"]["step"] == step


def test_a_checkpoint_is_read_back_with_weights_only(tmp_path: Path) -> None:
    path = save(tmp_path, 12)
    read = torch.load(path, weights_only=True)
    assert read["note"] == "täxt"
    assert torch.equal(read["state_dict"]["weight"], torch.full((300,), 12.0))
    assert read["optimizer_states"][0]["param_groups"] == [{"lr": 0.1}]
    assert "=" not in path.name


def test_the_manifest_describes_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, 12)
    facts = json.loads((tmp_path / "step_00000012.ckpt.json").read_text())
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["size"] == path.stat().st_size
    assert (facts["config_hash"], facts["step"], facts["total_steps"]) == ("abc", 12, 100)


def test_the_last_two_of_each_family_are_kept(tmp_path: Path) -> None:
    Checkpoints("abc").save_checkpoint(content(1), tmp_path / checkpoint_name(1, "best"))
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    names = ["best_00000001.ckpt", "step_00000003.ckpt", "step_00000004.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, *(f"{name}.json" for name in names)])


def test_writing_after_a_fall_back_removes_what_came_later(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10).write_bytes(b"damaged")
    save(tmp_path, 8)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step_00000005.ckpt", "step_00000008.ckpt"]


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        ({"hyper_parameters": {"config": OmegaConf.create({"a": 1})}}, r"checkpoint\['hyper_parameters'\]\['config'\]"),
        ({"folder": Path("x")}, r"checkpoint\['folder'\] is a pathlib"),
        ({"losses": [0.1, torch.nn.Linear(1, 1)]}, r"checkpoint\['losses'\]\[1\] is a torch\.nn"),
        ({"call": print}, r"checkpoint\['call'\]"),
    ],
    ids=["config", "path", "module", "function"],
)
def test_anything_but_plain_data_is_refused_by_its_key(tmp_path: Path, odd: dict[str, Any], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Checkpoints("abc").save_checkpoint(content(1) | odd, tmp_path / checkpoint_name(1))
    assert list(tmp_path.iterdir()) == []


def test_every_kind_that_is_accepted_can_be_read_without_code(tmp_path: Path) -> None:
    kinds = {
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "set": {1, 2},
        "tuple": (1, "a", None, b"b"),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        3: True,
    }
    path = tmp_path / checkpoint_name(1)
    Checkpoints("abc").save_checkpoint(content(1) | kinds, path)
    read = torch.load(path, weights_only=True)
    assert {key: read[key] for key in kinds if key != "parameter"} == {
        k: v for k, v in kinds.items() if k != "parameter"
    }


def test_code_in_a_checkpoint_is_not_run_whatever_the_caller_asks_for(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    path = save(tmp_path, 1)
    torch.save({"x": Bomb()}, path)
    facts = json.loads(Path(f"{path}.json").read_text())
    Path(f"{path}.json").write_text(json.dumps(facts | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        Checkpoints("abc").load_checkpoint(path, weights_only=False)
    assert not (tmp_path / "exploded").exists()


class SmallDisk:
    """A file on a disk that takes `room` bytes in all."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_full_disk_is_named_and_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save(tmp_path, 1)
    size = whole.stat().st_size
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    room = 0

    @contextmanager
    def on_small_disk(path: Path) -> Iterator[Any]:
        with atomic.replaced(path) as file:
            yield SmallDisk(file, room)

    monkeypatch.setattr(checkpoints, "replaced", on_small_disk)
    for room in range(0, size, size // 20):  # noqa: B007
        with pytest.raises(
            CheckpointError, match=r"cannot write .*step_00000002\.ckpt: the disk is full \(.* MB were"
        ) as e:
            save(tmp_path, 2)
        assert "step_00000001.ckpt is intact" in str(e.value)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def killed_before(operation: int, folder: Path, step: int) -> bool:
    """Save in a child that is killed right before its n-th operation on the disk; whether it lived that long."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Any) -> Any:
            def call(*arguments: Any) -> Any:
                nonlocal count
                if count == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                return real(*arguments)

            return call

        os.fsync = counted(os.fsync)
        for name in ("replace", "unlink"):
            setattr(Path, name, counted(getattr(Path, name)))
        checkpoints._Digest.write = counted(checkpoints._Digest.write)  # type: ignore[method-assign]
        try:
            Checkpoints("abc").save_checkpoint(content(step) | {"again": True}, folder / checkpoint_name(step))
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@forks
@pytest.mark.parametrize("step", [3, 2], ids=["a new one", "over an old one of the same step"])
def test_a_writer_killed_at_any_point_leaves_a_whole_checkpoint(tmp_path: Path, step: int) -> None:
    operation, killed = 0, True
    while killed:
        folder = tmp_path / str(operation)
        save(folder, 1)
        save(folder, 2)
        killed = killed_before(operation, folder, step)
        found = newest_whole(folder)
        assert found is not None
        assert found.step in (2, step)
        assert holds(found.path, found.step)
        assert found.damaged == ()
        save(folder, 4)
        assert sorted(path.name for path in folder.glob("*.ckpt"))[-1] == "step_00000004.ckpt"
        assert not list(folder.glob(".*"))
        assert len(list(folder.iterdir())) == 4
        operation += 1
    assert operation > 15


@forks
@pytest.mark.slow
def test_two_hundred_random_kills_of_a_busy_writer_always_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    chance, last = random.Random(0), 1
    save(tmp_path, 1, size=100_000)
    for _ in range(200):
        child = os.fork()
        if child == 0:
            for step in range(last + 1, last + 1000):
                save(tmp_path, step, size=100_000)
            os._exit(0)
        time.sleep(chance.uniform(0.002, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = newest_whole(tmp_path)
        assert found is not None
        assert found.step >= last
        assert holds(found.path, found.step)
        last = found.step
    assert last > 50


class Counting(lightning.LightningModule):
    """Keeps its own position, as the learners do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.steps = 0

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.steps += 1
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["position"] = {"step": self.steps, "total_steps": 4}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps = checkpoint["position"]["step"]


@pytest.mark.filterwarnings("ignore")
def test_lightning_saves_and_resumes_through_our_writer(tmp_path: Path) -> None:
    def trainer(epochs: int) -> lightning.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", plugins=[Checkpoints("abc")], enable_model_summary=False, **quiet
        )

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2)), batch_size=2)
    first, second = trainer(1), trainer(2)
    module = Counting()
    first.fit(module, data)
    first.save_checkpoint(tmp_path / checkpoint_name(module.steps))
    found = newest_whole(tmp_path)
    assert found is not None
    assert found.step == 2
    resumed = Counting()
    second.fit(resumed, data, ckpt_path=str(found.path))
    assert resumed.steps == 4
