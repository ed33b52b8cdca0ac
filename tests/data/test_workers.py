import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from made_images import dataset, noise, ragged_folders, save

from smalldata_vit.data.decode import BadImage
from smalldata_vit.data.images import Images
from smalldata_vit.data.keeping import number_of_workers
from smalldata_vit.data.workers import WorkerError, Workers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ragged_folders(tmp_path)


def streamed(root: Path) -> tuple[Images, Workers]:
    images = dataset(root, decoded="stream", most_shared=0.5, on_bad_image="skip", most_bad_images=0.1).load(0).train
    assert images.stream is not None
    return images, images.stream.workers


def test_a_file_that_is_damaged_during_the_run_is_named(root: Path) -> None:
    images, _ = streamed(root)
    before = images.take(torch.tensor([0]))[0]
    (root / "train" / "b" / "05.png").write_bytes((root / "train" / "b" / "05.png").read_bytes()[:200])
    with pytest.raises(BadImage, match=r"train/b/05\.png: .*truncated"):
        images.take(torch.arange(len(images)))
    assert torch.equal(images.take(torch.tensor([0]))[0], before)


def test_a_file_that_gets_another_size_during_the_run_is_named(root: Path) -> None:
    images, _ = streamed(root)
    save(noise(1, 9, 8), root / "train" / "b" / "05.png")
    with pytest.raises(BadImage, match=r"train/b/05\.png: it has 9 x 8 pixels, and had 25 x 35"):
        images.take(torch.arange(len(images)))


def test_a_killed_worker_is_an_error_that_says_so_at_once_and_from_then_on(root: Path) -> None:
    images, workers = streamed(root)
    images.take(torch.tensor([0]))
    os.kill(workers.members[0].process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(WorkerError, match=r"was ended by SIGKILL; .*train/a/.* was its next"):
            images.take(torch.tensor([0]))


def test_a_stopped_worker_is_an_error_after_its_time_and_is_ended(root: Path) -> None:
    images, workers = streamed(root)
    workers.seconds = 0.5
    (member,) = workers.members
    images.take(torch.tensor([0]))
    os.kill(member.process.pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"has not answered for 0\.5 seconds"):
        images.take(torch.tensor([0]))
    assert member.process.poll() == -signal.SIGKILL


def test_workers_do_not_listen_to_signals_that_mean_the_training(root: Path) -> None:
    images, workers = streamed(root)
    before = images.take(torch.tensor([0]))[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(workers.members[0].process.pid, number)
    assert torch.equal(images.take(torch.tensor([0]))[0], before)


def test_workers_end_with_the_images_that_they_decode(root: Path) -> None:
    images, workers = streamed(root)
    processes = [member.process for member in workers.members]
    del images, workers
    gc.collect()
    assert [process.poll() for process in processes] == [0]


def test_workers_end_when_their_parent_is_killed(root: Path) -> None:
    lines = (
        "import sys, time; from smalldata_vit.data.workers import Workers; w = Workers(2); "
        "print(*[m.process.pid for m in w.members], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if runs(pid)] == []


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_source_that_cannot_be_sent_to_workers_is_refused_with_the_way_out() -> None:
    workers = Workers(1)
    with pytest.raises(ValueError, match=r"cannot be sent to other processes.*dataset.decoded=cache"):
        workers.add(lambda i: (noise(i), 0))


@pytest.mark.parametrize("wrong", [0, -1, "many"])
def test_a_number_of_workers_that_is_none_is_refused(wrong: int | str) -> None:
    with pytest.raises(
        ValueError, match=rf"dataset\.workers={wrong}: it is a number of processes, at least 1, or auto"
    ):
        dataset(Path(), workers=wrong)


def test_there_are_no_more_workers_than_cores_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    assert number_of_workers(2) == (2, None)
    count, told = number_of_workers(64)
    assert count == 3
    assert told == "dataset.workers=64 is more than the 3 cores that this process may use: 3 start"


@pytest.mark.parametrize(("cores", "ranks", "count"), [(3, 1, 3), (64, 1, 16), (8, 4, 2), (2, 4, 1)])
def test_auto_is_the_share_of_the_cores_that_a_process_has(
    cores: int, ranks: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert number_of_workers("auto") == (count, None)
