"""Goals D1 to D7, counted in steady steps of stages as the command puts them together.

They are counted in a process of its own: the checks of shapes that tests install would break graphs.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from smalldata_vit.bench.runs import RUNS

GOALS = ("D1", "D2", "D3", "D4", "D5", "D6", "D7")


@cache
def counted() -> list[dict]:
    """The table's rows; counting takes most of a minute, so it is done once."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "budget.json"
        line = [sys.executable, "-m", "smalldata_vit.bench", "budget", "--write", str(file)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=600)
        assert file.exists(), done.stderr[-3000:]
        return json.loads(file.read_text())["goals"]


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("run", [run.name for run in RUNS])
def test_a_steady_step_stays_within_its_budget(run: str, goal: str) -> None:
    rows = [row for row in counted() if (row["run"], row["goal"]) == (run, goal)]
    assert rows
    missed = [f"{row['what']}: {row['value']:g}, at most {row['limit']:g}" for row in rows if not row["held"]]
    assert missed == []
