import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smalldata_vit import console
from smalldata_vit.console import Reporter, duration, set_up_log

LOGGERS = ("smalldata_vit", "lightning.pytorch", "lightning.fabric", "py.warnings")


@pytest.fixture
def _loggers_come_back() -> Iterator[None]:
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in LOGGERS}
    level = logging.getLogger("smalldata_vit").level
    yield
    logging.captureWarnings(False)
    logging.getLogger("smalldata_vit").setLevel(level)
    for name, (handlers, propagate) in before.items():
        for handler in logging.getLogger(name).handlers:
            handler.close()
        logging.getLogger(name).handlers[:], logging.getLogger(name).propagate = handlers, propagate


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_without_a_terminal_a_line_comes_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(200, "step", "pretrain")
    for step in range(1, 101):
        clock.now += 0.5
        reporter.advance(step, {"train/loss": 3.14159})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == "pretrain: step 20/200 (10 %, 1 min 30 s left): loss 3.142"
    assert lines[-1] == "pretrain: step 100/200 (50 %, 50 s left): loss 3.142"


def test_a_resumed_stage_counts_its_pace_from_where_it_goes_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(200, "step", "pretrain")
    reporter.advance(150, {})
    clock.now += 20
    reporter.advance(160, {})
    assert capsys.readouterr().out == "pretrain: step 160/200 (80 %, 1 min 20 s left)\n"


def test_the_end_is_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(3, "step", "finetune")
    reporter.advance(3, {"train/loss": 1.0})
    reporter.close()
    reporter.close()
    assert capsys.readouterr().out == "finetune: step 3/3 (100 %): loss 1\n"
    silent = Reporter(3, "step", "finetune")
    silent.close()
    assert capsys.readouterr().out == ""


def test_on_a_terminal_a_bar_moves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    reporter = Reporter(10, "step", "pretrain")
    reporter.advance(4, {"train/loss": 0.5})
    reporter.close()
    said = capsys.readouterr().out
    assert "pretrain" in said
    assert "4/10" in said
    assert "loss 0.5" in said


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    reporter = Reporter(1, "step", "x" * 300)
    reporter.advance(1, {})
    reporter.close()
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(44.6, "45 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.usefixtures("_loggers_come_back")
def test_each_line_stands_once_in_the_file_and_once_on_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_log(tmp_path / "pretrain" / "log.txt")
    set_up_log(tmp_path / "pretrain" / "log.txt")
    logging.getLogger("smalldata_vit.data").info("1,197 images [in memory]")
    logging.getLogger("smalldata_vit").debug("only for the file")
    logging.getLogger("smalldata_vit").warning("collapse")
    assert capsys.readouterr().out == "1,197 images [in memory]\nwarning: collapse\n"
    lines = (tmp_path / "pretrain" / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO 1,197 images [in memory]",
        "DEBUG only for the file",
        "WARNING collapse",
    ]


@pytest.mark.usefixtures("_loggers_come_back")
def test_other_ranks_say_only_errors(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(None)
    logging.getLogger("smalldata_vit").warning("said by rank 0 already")
    logging.getLogger("smalldata_vit").error("rank 1 broke")
    assert capsys.readouterr().out == "error: rank 1 broke\n"


@pytest.mark.usefixtures("_loggers_come_back")
def test_a_secret_of_the_environment_reaches_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    set_up_log(tmp_path / "log.txt")
    logging.getLogger("smalldata_vit").info("header: %s", "Bearer 0123456789abcdef")
    assert "0123456789abcdef" not in capsys.readouterr().out + (tmp_path / "log.txt").read_text()
