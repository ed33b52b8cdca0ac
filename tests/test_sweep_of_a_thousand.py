"""A sweep over a thousand jobs plans, lists, runs and tells in seconds of its own. Stub jobs."""

import json
import time
from pathlib import Path

import pytest

from smalldata_vit import sweep_plan
from smalldata_vit.shares import Machine
from smalldata_vit.sweeps import Sweep

WORDS = [[f"seed={n}"] for n in range(1000)]
FIXED = ["method=supervised"]


def launched(folder: Path) -> tuple[Sweep, float]:
    """The sweep after its end, and the seconds of this process's own arithmetic that it took."""
    (folder / "stub.py").write_text("import pathlib, sys; pathlib.Path(sys.argv[-1][11:], 'ran').touch()")
    sweep = Sweep(FIXED, folder / "out", folder / "stub.py")
    began = time.process_time()
    sweep.launch(WORDS, 0, 2)
    return sweep, time.process_time() - began


def test_a_thousand_finished_jobs_are_found_and_told_in_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for planned in sweep_plan.plan(FIXED, WORDS, 0, tmp_path / "out", tmp_path / "stub.py", Machine((), 2)):
        planned.job.folder.mkdir(parents=True)
        stages = {"finetune": {"metrics": {"val/accuracy": planned.job.number / 1000}}}
        said = {"schema": 1, "status": "finished", "config_hash": planned.hash, "stages": stages}
        (planned.job.folder / "results.json").write_text(json.dumps(said))
    sweep, seconds = launched(tmp_path)
    told = capsys.readouterr().out
    assert sweep.status == 0
    assert "1000 jobs (1000 finished before)" in told
    assert "val/accuracy 0.7070" in told
    assert list((tmp_path / "out").glob("*/ran")) == []
    assert seconds < 20


@pytest.mark.slow
def test_a_thousand_jobs_run_and_the_sweep_itself_costs_each_a_fiftieth_of_a_second(tmp_path: Path) -> None:
    sweep, seconds = launched(tmp_path)
    assert sweep.status == 0
    assert len(list((tmp_path / "out").glob("*/ran"))) == 1000
    record = json.loads((tmp_path / "out" / "jobs.json").read_text())["jobs"]
    assert {(entry["status"], entry["starts"]) for entry in record.values()} == {("finished", 1)}
    assert seconds < 20
