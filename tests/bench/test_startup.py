"""What makes the command start soon, held without a clock; and the table that times it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smalldata_vit.bench import startup
from smalldata_vit.results import read_json

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"torch", "torchvision", "lightning", "timm", "torchmetrics", "sklearn", "wandb", "PIL", "matplotlib"}


def imported(case: startup.Case) -> set[str]:
    """Packages that a case's process imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *case.words],
        env=dict(os.environ) | dict(case.environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == case.status, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "name",
    ["--help", "-m --help", "wrong option", "wrong key", "wrong argument", "--cfg job", "completion: keys of a stage"],
)
def test_what_trains_nothing_imports_nothing_heavy(name: str) -> None:
    [case] = [case for case in startup.cases() if case.name == name]
    assert imported(case) & HEAVY == set()


def test_help_does_not_compose() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run\n"
        "from smalldata_vit import composition\n"
        "composition._composed = composition._choices_of = None\n"
        "sys.exit(run.main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_command_runs_what_others_registered_and_keeps_the_status() -> None:
    script = (
        "import atexit, runpy, sys\n"
        "sys.argv = ['run.py', '--help']\n"
        "import smalldata_vit.config as config\n"
        "config.options = lambda group: atexit.register(print, 'registered later') and []\n"
        f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("registered later")
    refused = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "sed=1"], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")


def test_the_table_says_which_goals_are_met() -> None:
    quick = startup.row(startup.Case("quick", (), 1.0), [(0.5, 0.6, None), (0.7, 0.8, None), (0.6, 0.7, None)])
    slow = startup.row(startup.Case("slow", (), 1.0), [(1.5, 1.6, 1.2)])
    free = startup.row(startup.Case("free", ()), [(9.0, 9.0, None)])
    assert (quick.cpu, quick.wall, quick.first, quick.to_first_step) == (0.6, 0.7, 0.5, None)
    assert slow.to_first_step == 1.2
    lines = startup.shown([quick, slow, free], 3).splitlines()
    assert lines[2].endswith("met")
    assert "MISSED" in lines[3]
    assert lines[4].endswith("-")


def test_a_benchmark_of_one_case_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "startup.json"
    startup.main(["--only", "wrong option", "--rounds", "1", "--json", str(file)])
    assert "wrong option" in capsys.readouterr().out
    [row] = read_json(file)["rows"]
    assert 0 < row["cpu"] < 60


def test_a_case_that_ends_otherwise_than_it_must_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 2, not 0"):
        startup.timed(startup.Case("wrong", (str(startup.SCRIPT), "sed=1")), tmp_path, 0)
