"""What a machine has, and what the jobs of a sweep get of it. The GPUs are fabricated."""

from pathlib import Path

import pytest

from smalldata_vit import shares
from smalldata_vit.shares import Machine, Need, Shares, at_once, need_of, visible_gpus

FOUR = Machine(("0", "1", "2", "3"), 16)
LISTED = "GPU 0: NVIDIA H200 (UUID: GPU-aaa)\nGPU 1: NVIDIA H200 (UUID: GPU-bbb)\n"
CUT = "GPU 0: NVIDIA H200 (UUID: GPU-aaa)\n  MIG 1g.18gb     Device  0: (UUID: MIG-x)\n" + (
    "  MIG 1g.18gb     Device  1: (UUID: MIG-y)\nGPU 1: NVIDIA H200 (UUID: GPU-bbb)\n"
)


@pytest.fixture(autouse=True)
def _no_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(shares.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def with_nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def no_devices(folder: Path) -> Path:
    made = folder / "dev"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("named", "gpus"),
    [("2,5", ("2", "5")), (" 1 , 0 ", ("1", "0")), ("", ()), ("-1", ()), ("0,-1,3", ("0",)), ("MIG-x", ("MIG-x",))],
)
def test_the_gpus_that_were_made_visible_are_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, gpus: tuple[str, ...]
) -> None:
    with_nvidia_smi(tmp_path, f"echo '{LISTED}'")
    monkeypatch.setenv(shares.VISIBLE, named)
    assert visible_gpus(no_devices(tmp_path)) == gpus


@pytest.mark.parametrize(("listed", "gpus"), [(LISTED, ("0", "1")), (CUT, ("MIG-x", "MIG-y", "1"))])
def test_nvidia_smi_lists_gpus_and_the_instances_of_those_that_are_cut(
    tmp_path: Path, listed: str, gpus: tuple[str, ...]
) -> None:
    with_nvidia_smi(tmp_path, f"echo '{listed}'")
    assert visible_gpus(no_devices(tmp_path)) == gpus


def test_without_a_working_nvidia_smi_the_device_files_are_counted(tmp_path: Path) -> None:
    with_nvidia_smi(tmp_path, "exit 9")
    devices = no_devices(tmp_path)
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (devices / name).touch()
    assert visible_gpus(devices) == ("0", "1", "10")


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares.os, "sched_getaffinity", lambda process: set(range(8)))
    quota = tmp_path / "cpu.max"
    found = [shares.cores_here(quota)]
    for text in ("max 100000\n", "300000 100000\n", "50000 100000\n", "9900000 100000\n"):
        quota.write_text(text)
        found.append(shares.cores_here(quota))
    assert found == [8, 8, 3, 1, 8]


@pytest.mark.parametrize(
    ("trainer", "need"),
    [
        ({"accelerator": "auto", "devices": "auto"}, Need(None, True)),
        ({"accelerator": "gpu", "devices": 2}, Need(2, True)),
        ({"accelerator": "cpu", "devices": "auto"}, Need(1, False)),
        ({"accelerator": "cpu", "devices": 2}, Need(2, False)),
    ],
)
def test_a_job_needs_what_its_trainer_says(trainer: dict[str, object], need: Need) -> None:
    assert need_of(trainer, FOUR) == need


@pytest.mark.parametrize(
    ("needs", "machine", "jobs"),
    [
        ([Need(None, True)] * 9, FOUR, 4),
        ([Need(2, True)] * 9, FOUR, 2),
        ([Need(8, True)] * 9, FOUR, 1),
        ([Need(1, False)] * 40, FOUR, 16),
        ([Need(2, False)] * 9, Machine((), 7), 3),
        ([Need(2, False)] * 9, Machine((), 1), 1),
        ([Need(1, False)] * 2, FOUR, 2),
    ],
)
def test_auto_is_as_many_jobs_as_there_are_gpus_for_else_cores(needs: list[Need], machine: Machine, jobs: int) -> None:
    assert at_once("auto", needs, machine) == jobs


@pytest.mark.parametrize("asked", [0, -1, "two", 1.5, True, None])
def test_a_number_of_jobs_that_is_none_is_refused(asked: object) -> None:
    with pytest.raises(ValueError, match=r"hydra.launcher.jobs=.* is neither auto nor a number"):
        at_once(asked, [Need(1, False)], FOUR)


def test_no_gpu_goes_to_two_jobs_while_another_is_free() -> None:
    given = Shares(FOUR, 2)
    one, two = given.take(Need(2, True)), given.take(Need(2, True))
    assert (one.gpus, two.gpus) == (("0", "1"), ("2", "3"))
    given.give_back(one)
    assert given.take(Need(2, True)).gpus == ("0", "1")


def test_jobs_that_take_what_they_see_divide_the_gpus() -> None:
    given = Shares(FOUR, 2)
    assert [given.take(Need(None, True)).gpus for _ in range(2)] == [("0", "1"), ("2", "3")]


def test_more_jobs_than_gpus_share_them_evenly() -> None:
    given = Shares(Machine(("0", "1"), 16), 4)
    assert sorted(given.take(Need(None, True)).gpus for _ in range(4)) == [("0",), ("0",), ("1",), ("1",)]


def test_threads_are_divided_among_all_processes_of_all_jobs() -> None:
    assert Shares(FOUR, 3).take(Need(2, False)).threads == 2
    assert Shares(FOUR, 16).take(Need(4, False)).threads == 1


def test_a_job_on_the_cpu_and_one_that_runs_alone_keep_the_gpus_that_they_see() -> None:
    assert Shares(FOUR, 2).take(Need(1, False)).gpus is None
    assert Shares(FOUR, 1).take(Need(1, True)) == shares.Share(None, None)
