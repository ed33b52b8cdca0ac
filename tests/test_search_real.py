"""A search through run.py itself: two trials of two steps on digits."""

import json
from pathlib import Path

from command import results, succeed


def test_a_search_on_digits_finds_what_its_jobs_reached(tmp_path: Path) -> None:
    how = ["hydra/sweeper=optuna", "hydra.sweeper.space=finetune", "hydra.sweeper.trials=2", "hydra.sweeper.jobs=2"]
    what = ["method=supervised", "trainer=cpu", "debug=true", "store=null", "finetune.pixel_baseline=false"]
    done = succeed("-m", *how, *what, "arch.depth=1", f"output_dir={tmp_path}")
    told = json.loads((tmp_path / "search.json").read_text())
    for trial in told["trials"]:
        reached = results(Path(trial["folder"]))["stages"]["finetune"]["metrics"]["val/accuracy"]
        assert (trial["state"], trial["values"]) == ("complete", [reached])
    assert told["best"][0]["command"] in done.stdout
