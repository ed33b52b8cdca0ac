import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smalldata_vit.metrics import MetricsFile, Row, read_metrics

WRITE = """
import sys, time
from pathlib import Path
from smalldata_vit.metrics import MetricsFile
file = MetricsFile(Path(sys.argv[1]))
step = 0
while True:
    step += 1
    file.write(step, step / 10, step / 100, {"train/loss": 1 / step, "train/norm": 2.0})
    print(step, flush=True)
"""


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.write(1, 0.5, 1.25, {"train/loss": 0.1, 'odd, "name"': math.inf})
    file.write(2, 1.0, 2.5, {"train/loss": math.nan})
    rows = read_metrics(tmp_path / "metrics.csv")
    assert rows[:2] == [Row(1, 0.5, 1.25, "train/loss", 0.1), Row(1, 0.5, 1.25, 'odd, "name"', math.inf)]
    assert math.isnan(rows[2].value)
    assert (
        (tmp_path / "metrics.csv").read_text().startswith("step,epoch,seconds,name,value\n1,0.5,1.250,train/loss,0.1\n")
    )


def test_reopening_appends_and_repairs_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.write(1, 0.1, 0.0, {"a": 1.0})
    file.close()
    whole = path.read_bytes()
    for torn in (b"2", b"2,0.2,0.0,a,2.", b"2,0.2,0.0,a,2.0"):
        path.write_bytes(whole + torn)
        assert [row.step for row in read_metrics(path)] == [1]
        MetricsFile(path).close()
        assert path.read_bytes() == whole
    MetricsFile(path).write(2, 0.2, 0.0, {"a": 2.0})
    assert [row.step for row in read_metrics(path)] == [1, 2]


def test_resuming_drops_the_rows_of_later_steps_and_goes_on(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    for step in range(1, 6):
        file.write(step, step / 2, float(step), {"a": step * 0.1, "b": 0.0})
    before = (tmp_path / "metrics.csv").read_bytes()
    assert file.cut(3) == 4
    assert before.startswith((tmp_path / "metrics.csv").read_bytes())
    assert file.cut(3) == 0
    file.write(4, 2.0, 9.0, {"a": -1.0})
    assert [row.step for row in read_metrics(tmp_path / "metrics.csv")] == [1, 1, 2, 2, 3, 3, 4]


def test_kill_minus_nine_loses_no_row_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with subprocess.Popen([sys.executable, "-c", WRITE, path], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        said = [run.stdout.readline() for _ in range(50)]
        os.kill(run.pid, signal.SIGKILL)
        said += run.stdout.readlines()
    last = max(int(line) for line in said if line.endswith("\n"))
    rows = read_metrics(path)
    assert [row.step for row in rows[: 2 * last]] == [step for step in range(1, last + 1) for _ in range(2)]


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,seconds,name,value\n1,0.1,0.0,a,1.0\nnonsense\n")
    with pytest.raises(ValueError, match=r"metrics\.csv, line 3: 'nonsense' is not step,epoch,seconds,name,value"):
        read_metrics(path)
