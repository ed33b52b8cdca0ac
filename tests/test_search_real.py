"""Searches through run.py itself, on digits: what they find, prune, share, and are after they were killed."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command import TINY_SUPERVISED, differences, results, run, start, succeed, wait_for
from stub_jobs import alive
from test_sweep_equals_single_runs import descendants, made

OPTUNA = ("-m", "hydra/sweeper=optuna")
TINY = (*TINY_SUPERVISED, "method=supervised", "dataset=digits", "finetune.batch_size=16", "finetune.steps=4")
LR = "finetune.optimization.lr"


def words(*more: str, trials: int, jobs: int = 1) -> tuple[str, ...]:
    return (*OPTUNA, *TINY, f"hydra.sweeper.trials={trials}", f"hydra.sweeper.jobs={jobs}", *more)


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "search.json").read_text())


def of(trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial's job says of its last stage."""
    return results(Path(trial["folder"]))["stages"]["finetune"]


def processes_of(folder: Path) -> list[str]:
    """Processes that were told to write into a folder, and still run."""
    listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if f"output_dir={folder}" in line and not line.startswith("Z")]


def alone(trial: dict[str, Any], folder: Path, *fixed: str) -> dict[str, Any]:
    """What the trial's command makes without a search."""
    succeed(*fixed, *trial["words"], f"output_dir={folder}")
    return made(folder)


def test_a_search_on_digits_finds_what_its_jobs_reached(tmp_path: Path) -> None:
    how = ["hydra/sweeper=optuna", "hydra.sweeper.space=finetune", "hydra.sweeper.trials=2", "hydra.sweeper.jobs=2"]
    what = ["method=supervised", "trainer=cpu", "debug=true", "store=null", "finetune.pixel_baseline=false"]
    done = succeed("-m", *how, *what, "arch.depth=1", "report=false", f"output_dir={tmp_path}")
    for trial in told(tmp_path)["trials"]:
        assert (trial["state"], trial["values"]) == ("complete", [of(trial)["metrics"]["val/accuracy"]])
    assert told(tmp_path)["best"][0]["command"] in done.stdout
    assert f"report: {tmp_path / 'report.html'}" in done.stdout


def test_a_test_metric_as_objective_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = run(*words(f"{LR}=0.1,0.2", "hydra.sweeper.objective=[test/accuracy]", f"output_dir={tmp_path}", trials=2))
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra.sweeper.objective=test/accuracy: a search that looks at test images")


@pytest.mark.slow
def test_a_pruned_trial_ends_at_its_budget_frees_its_slot_and_leaves_no_process(tmp_path: Path) -> None:
    longer = ("finetune.steps=400", "finetune.evaluate_every_epochs=1", f"output_dir={tmp_path}", "arch.depth=1")
    how = (*longer, "hydra.sweeper.budgets=[25,50]", "hydra.sweeper.pruner.n_startup_trials=2")
    succeed(*words(f"{LR}=range(0.01001,0.03,0.01)", *how, trials=2))
    done = succeed(*words(f"{LR}=range(0.00001,0.04,0.01)", *how, trials=4))
    trials = {trial["params"][LR]: trial for trial in told(tmp_path)["trials"]}
    hopeless = trials.pop(0.00001)
    assert (hopeless["state"], list(hopeless["reached"])) == ("pruned", ["25"])
    assert f"trial {hopeless['number']} has left: its slot is free" in done.stdout
    steps = [int(line.partition(",")[0]) for line in metrics(hopeless)[1:]]
    assert 100 <= max(steps) < 200, "it was told at the first of its budgets, and left before the second"
    assert of(hopeless)["status"] == "interrupted"
    assert [trials[lr]["state"] for lr in (0.01001, 0.02001)] == ["complete"] * 2
    assert processes_of(tmp_path) == []


def metrics(trial: dict[str, Any]) -> list[str]:
    return (Path(trial["folder"]) / "finetune" / "metrics.csv").read_text().splitlines()


@pytest.mark.slow
def test_a_search_killed_again_and_again_does_each_trial_once_and_as_if_it_never_was(tmp_path: Path) -> None:
    fixed = (*TINY, "finetune.steps=30", "finetune.checkpoint_every_seconds=0")
    place = tmp_path / "search"
    typed = words(
        *fixed, f"{LR}=0.001,0.01,0.03,0.1", f"output_dir={place}", "hydra/sweeper/pruner=none", trials=3, jobs=2
    )
    chance = random.Random(0)
    for number in range(4):
        search = start(*typed)
        wait_for(lambda pid=search.pid: bool(descendants(pid)), search)
        time.sleep(chance.uniform(0, 15))
        children = descendants(search.pid)
        for pid in [*(chance.sample(children, 1) if children and number % 2 else []), search.pid]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        search.communicate()
        deadline = time.monotonic() + 60
        while any(alive(pid) for pid in children):
            assert time.monotonic() < deadline, "a process outlived its search"
            time.sleep(0.1)
    succeed(*typed)
    trials = told(place)["trials"]
    assert [(trial["number"], trial["state"]) for trial in trials] == [(number, "complete") for number in range(3)]
    assert len({trial["words"][0] for trial in trials}) == len(list(place.glob("0*"))) == 3
    stamps = [(Path(trial["folder"]) / "results.json").stat().st_mtime_ns for trial in trials]
    succeed(*typed)
    assert [(Path(trial["folder"]) / "results.json").stat().st_mtime_ns for trial in trials] == stamps
    assert differences(made(Path(trials[0]["folder"])), alone(trials[0], tmp_path / "alone", *fixed)) == []


@pytest.mark.slow
def test_two_searches_at_a_time_share_one_storage_and_never_a_trial(tmp_path: Path) -> None:
    storage = f"hydra.sweeper.storage={tmp_path / 'shared.journal'}"
    places = [tmp_path / "one", tmp_path / "other"]
    searches = [start(*words(f"{LR}=0.001,0.01,0.03,0.1", storage, f"output_dir={p}", trials=4)) for p in places]
    said = [search.communicate(timeout=400)[0] for search in searches]
    assert [search.returncode for search in searches] == [0, 0], said
    folders = [folder for place in places for folder in sorted(place.glob("0*"))]
    assert sorted(int(folder.name[:4]) for folder in folders) == list(range(4)), "each number once, in one of the two"
    assert all(any(place.glob("0*")) for place in places)
    succeed(*words(f"{LR}=0.001,0.01,0.03,0.1", storage, f"output_dir={places[0]}", trials=4))
    trials = told(places[0])["trials"]
    assert [trial["values"] for trial in trials] == [[of(trial)["metrics"]["val/accuracy"]] for trial in trials]
    assert len({trial["words"][0] for trial in trials}) == 4


@pytest.mark.slow
def test_accuracy_is_weighed_against_seconds_and_the_best_are_those_that_none_beats(tmp_path: Path) -> None:
    objective = "hydra.sweeper.objective=[val/accuracy,seconds]"
    done = succeed(*words("arch.depth=1,4", f"{LR}=0.0001,0.05", objective, f"output_dir={tmp_path}", trials=4, jobs=2))
    trials = told(tmp_path)["trials"]
    for trial in trials:
        assert trial["values"] == [of(trial)["metrics"]["val/accuracy"], of(trial)["seconds"]]
    unbeaten = [one for one in trials if not any(beats(other["values"], one["values"]) for other in trials)]
    assert [best["number"] for best in told(tmp_path)["best"]] == [trial["number"] for trial in unbeaten]
    assert all(trial["command"] in done.stdout for trial in unbeaten)
    assert "nothing is pruned" in done.stdout


def beats(one: list[float], other: list[float]) -> bool:
    """More accurate and not slower, or faster and not less accurate."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@pytest.mark.slow
def test_two_ranks_of_a_trial_give_what_its_command_gives_alone(tmp_path: Path) -> None:
    fixed = (*TINY, "trainer.devices=2", "finetune.pass_size=8")
    varied = (f"{LR}=0.001,0.01", f"output_dir={tmp_path / 'search'}")
    succeed(*words("trainer.devices=2", "finetune.pass_size=8", *varied, trials=2, jobs=2))
    trials = told(tmp_path / "search")["trials"]
    assert [(trial["state"], of(trial)["devices"]) for trial in trials] == [("complete", 2)] * 2
    found = [made(Path(trial["folder"])) for trial in trials]
    assert differences(*found) != [], "trials that differ in nothing prove nothing"
    for number, trial in enumerate(trials):
        assert differences(found[number], alone(trial, tmp_path / str(number), *fixed)) == []
