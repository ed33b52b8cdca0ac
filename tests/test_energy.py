"""Energy from made-up counters."""

import time
from pathlib import Path

import pytest

from smalldata_vit.energy import Meter, counters


def package(folder: Path, name: str, stands_at: int, wraps_at: int = 1_000_000_000) -> Path:
    place = folder / name
    place.mkdir()
    (place / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    (place / "energy_uj").write_text(f"{stands_at}\n")
    return place / "energy_uj"


def test_what_all_packages_counted_is_added_up(tmp_path: Path) -> None:
    one, other = package(tmp_path, "intel-rapl:0", 5_000_000), package(tmp_path, "intel-rapl:1", 0)
    with Meter(counters(tmp_path)) as meter:
        one.write_text("9000000")
        other.write_text("2500000")
    assert meter.joules == pytest.approx(6.5)


def test_a_part_of_a_package_is_not_counted_again(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 0)
    package(tmp_path, "intel-rapl:0:0", 0)
    assert [counter.file.parent.name for counter in counters(tmp_path)] == ["intel-rapl:0"]


def test_a_counter_that_starts_again_from_nothing_loses_nothing(tmp_path: Path) -> None:
    file = package(tmp_path, "intel-rapl:0", 99_000_000, wraps_at=100_000_000)
    with Meter(counters(tmp_path)) as meter:
        file.write_text("4000000")
    assert meter.joules == pytest.approx(5.0)


def test_readings_in_between_see_every_new_start(tmp_path: Path) -> None:
    file = package(tmp_path, "intel-rapl:0", 0, wraps_at=10_000_000)
    with Meter(counters(tmp_path), every_seconds=0.01) as meter:
        for stand in (6_000_000, 2_000_000, 8_000_000):
            (file.parent / "next").write_text(str(stand))
            (file.parent / "next").replace(file)
            wait_for(lambda stand=stand: meter.stand == [stand])
    assert meter.joules == pytest.approx(18.0)


def test_a_machine_without_counters_tells_no_energy(tmp_path: Path) -> None:
    with Meter(counters(tmp_path)) as meter:
        pass
    assert meter.joules is None


def test_a_counter_that_cannot_be_read_any_more_leaves_no_half_number(tmp_path: Path) -> None:
    file = package(tmp_path, "intel-rapl:0", 0)
    with Meter(counters(tmp_path)) as meter:
        file.unlink()
    assert meter.joules is None


def wait_for(holds) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "the reader did not read"
        time.sleep(0.005)
