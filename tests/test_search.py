"""Searches: shared storage, killed and continued, pruned, refused. The jobs start a script of the test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from hydra_plugins.smalldata_vit.search import PRUNERS, SAMPLERS
from smalldata_vit import composition, hydra_commands
from smalldata_vit.search import claims, command, planning
from smalldata_vit.search.asked import Asked
from smalldata_vit.sweeps import Sweep
from smalldata_vit.words import ConfigError

STUB = """
import json, os, pathlib, re, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["output_dir"].strip("'"))
(folder / "finetune").mkdir(parents=True, exist_ok=True)
with open("began.txt", "a") as file:
    file.write(f"{folder.name} {os.getpid()}\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if words.get("name") == "breaks" and words["seed"] != "1":
    sys.exit("error: seed is not 1")
if words.get("name") == "dies" or words.get("name") == "dies_once" and not (folder / "died").exists():
    (folder / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
lr = float(words.get("finetune.optimization.lr", "0.1"))
metrics = folder / "finetune" / "metrics.csv"
if not metrics.exists():
    metrics.write_text("step,epoch,seconds,name,value\\n")
pause = float(os.environ.get("STUB_SECONDS", "0"))
for step in (75, 150, 225):
    with metrics.open("a") as file:
        file.write(f"{step},1.0,1.0,val/accuracy,{lr}\\n")
    time.sleep(pause)
numbers = {"val/accuracy": lr, "test/accuracy": 1 - lr}
done = {"finetune": {"status": "finished", "metrics": numbers, "seconds": 10 * lr, "flops": 1.0}}
(folder / "results.json").write_text(json.dumps({"schema": 1, "stages": done}))
with open("ended.txt", "a") as file:
    file.write(f"{folder.name}\\n")
"""

LR = "finetune.optimization.lr=tag(log,interval(1e-3,0.5))"
ASKED = Asked(
    fixed=["method=supervised"],
    swept=[],
    folder=Path("out"),
    script=Path("stub.py"),
    space=None,
    objective=None,
    trials=20,
    jobs=1,
    storage="out/search.journal",
    study="search",
    watch=None,
    budgets=[25, 50, 75],
    seed=0,
    failures=3,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Searches run in a folder of the test, with a script in place of run.py."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_SECONDS", "0")
    return tmp_path


def search(
    *swept: str, fixed: str = "", pruner: str = "median", startup: int = 4, place: str = "out", **changes
) -> int:
    """A search to its end, in this process, by what Hydra's groups hold; its exit status."""
    words = ["method=supervised", f"output_dir={place}", *fixed.split()]
    asked = replace(ASKED, fixed=words, swept=list(swept), folder=Path(place), **changes)
    chosen = PRUNERS[pruner] | ({"n_startup_trials": startup} if pruner == "median" else {})
    return command.search(asked, instantiate(SAMPLERS["tpe"]), instantiate(chosen))


def start(arguments: str, seconds: float) -> subprocess.Popen[str]:
    """A search in a process of its own, its jobs taking so long at each of three steps."""
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from test_search import LR, search; sys.exit(search({arguments}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"STUB_SECONDS": str(seconds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def found(folder: str = "out") -> dict[str, Any]:
    return json.loads(Path(folder, "search.json").read_text())


def lines(name: str) -> list[str]:
    return Path(name).read_text().splitlines() if Path(name).exists() else []


def wait_for(many: int, name: str, process: subprocess.Popen[str]) -> None:
    """Until a file has so many lines."""
    deadline = time.monotonic() + 60
    while len(lines(name)) < many and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(lines(name)) >= many, process.communicate()[0]


def test_hydra_runs_the_trials_it_was_asked_for_and_names_the_best_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hydra_commands, "Sweep", partial(Sweep, script=Path("stub.py")))
    words = ["method=supervised", "seed=3", LR, "hydra/sweeper=optuna", "hydra/sweeper/sampler=random"]
    assert hydra_commands.run_hydra(["-m", *words, "hydra.sweeper.trials=4", "hydra.sweeper.jobs=2"]) == 0
    [folder] = Path("outputs/searches").iterdir()
    told = found(str(folder))
    assert [trial["number"] for trial in told["trials"]] == list(range(4))
    assert {trial["state"] for trial in told["trials"]} <= {"complete", "pruned"}
    best = max(trial["values"][0] for trial in told["trials"] if trial["values"])
    [winner] = told["best"]
    assert winner["values"] == [best]
    assert winner["command"] == f"python stub.py method=supervised seed=3 finetune.optimization.lr={best}"
    assert winner["command"] in capfd.readouterr().out


def test_hydra_finds_the_plugin_without_loading_optuna() -> None:
    program = "import sys, hydra_plugins.smalldata_vit.search; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_hydra_refuses_a_test_metric_in_our_words() -> None:
    words = ["method=supervised", LR, "hydra/sweeper=optuna", "hydra.sweeper.objective=[test/accuracy]"]
    with pytest.raises(ConfigError, match="Choose by val/accuracy"):
        hydra_commands.run_hydra(["-m", *words])


def test_what_is_stored_is_what_was_typed_is_short_and_tells_nothing_of_test_images() -> None:
    search(LR, trials=3)
    for trial in found()["trials"]:
        assert trial["words"] == [f"finetune.optimization.lr={trial['params']['finetune.optimization.lr']}"]
        assert len(trial["words"][0]) <= len("finetune.optimization.lr=0.001234")
    assert "test/" not in json.dumps(found())


def test_the_same_command_again_runs_nothing_and_more_trials_run_the_rest() -> None:
    for trials, begun in ((3, 3), (3, 3), (5, 5)):
        search(LR, trials=trials)
        assert len(lines("began.txt")) == begun


def test_a_search_in_parts_proposes_what_it_would_have_proposed_in_one() -> None:
    varied = (LR, "finetune.arch.drop_path_rate=interval(0.0,0.3)")
    for trials, place in ((11, "whole"), (9, "parts"), (11, "parts")):
        search(*varied, trials=trials, place=place, storage=None, pruner="none")
    proposed = [[trial["words"] for trial in found(place)["trials"]] for place in ("whole", "parts")]
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize("storage", ["shared.journal", "sqlite:///shared.db"])
def test_two_searches_on_one_storage_share_the_trials_and_never_run_the_same(storage: str) -> None:
    processes = [start(f"LR, trials=10, jobs=2, storage={storage!r}, place={p!r}", 0.3) for p in ("out", "other")]
    printed = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    began = [line.split()[0] for line in lines("began.txt")]
    assert len(began) == len(set(began)) == 10
    search(LR, trials=10, storage=storage)
    told = found()["trials"]
    assert len({trial["words"][0] for trial in told}) == 10
    assert {Path(trial["folder"]).parent.name for trial in told} == {"out", "other"}


def test_a_search_that_was_killed_and_is_continued_has_as_many_trials_as_were_asked_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    process = start("LR, trials=8, jobs=2, pruner='none'", 0.5)
    wait_for(3, "began.txt", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for line in lines("began.txt"):  # run.py would have ended itself with its parent
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[1]), signal.SIGKILL)
    left = {line.split()[0] for line in lines("began.txt")} - set(lines("ended.txt"))
    assert left
    assert search(LR, trials=8, jobs=2, pruner="none") == 0
    told = found()["trials"]
    assert [trial["number"] for trial in told] == list(range(8))
    assert {trial["state"] for trial in told} == {"complete"}
    assert set(lines("ended.txt")) == {Path(trial["folder"]).name for trial in told}
    assert capfd.readouterr().out.count("goes on") >= len(left)


def test_a_signal_stops_the_jobs_keeps_their_trials_and_the_same_command_goes_on() -> None:
    process = start("LR, trials=4, jobs=2", 60)
    wait_for(2, "began.txt", process)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143, printed
    assert found()["status"] == "stopped"
    assert [trial["state"] for trial in found()["trials"]] == ["running", "running"]
    assert search(LR, trials=4, jobs=2) == 0
    assert len(found()["trials"]) == 4


def test_a_trial_whose_job_is_killed_again_and_again_fails() -> None:
    assert search("seed=choice(1,2)", fixed="name=dies", trials=2) == 1
    assert [trial["error"] for trial in found()["trials"]] == ["its job was killed 3 times"] * 2
    assert len(lines("began.txt")) == 6


def test_a_trial_whose_job_is_killed_once_is_finished_by_the_same_search() -> None:
    assert search("seed=choice(1,2)", fixed="name=dies_once", trials=2, jobs=2) == 0
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 2
    assert len(lines("began.txt")) == 4


def test_pruned_trials_are_told_to_stop_and_free_their_slot() -> None:
    assert search("finetune.optimization.lr=range(0.5,1.0,0.1)", trials=5, budgets=[25], startup=2) == 0
    # Those that are left are worse than the median; by themselves they would take half an hour each.
    process = start("'finetune.optimization.lr=range(0.1,1.0,0.1)', trials=7, budgets=[25], startup=2", 600)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    pruned = found()["trials"][5:]
    assert [trial["state"] for trial in pruned] == ["pruned"] * 2
    for trial in pruned:
        value = trial["params"]["finetune.optimization.lr"]
        assert (trial["reached"], trial["values"]) == ({"25": value}, None)
        assert f"trial {trial['number']} is pruned: finetune.val/accuracy {value} at 25 %" in printed


def test_a_trial_that_fails_is_told_the_others_run_and_the_status_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("seed=choice(0,1,2)", fixed="name=breaks") == 1
    states = {trial["params"]["seed"]: trial["state"] for trial in found()["trials"]}
    assert states == {"0": "failed", "1": "complete", "2": "failed"}
    assert "failed: error: seed is not 1" in capfd.readouterr().out


def test_a_search_of_which_nothing_works_ends_early(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("seed=range(2,40)", fixed="name=breaks", trials=30) == 1
    assert "the first 3 trials failed, so the search ends" in capfd.readouterr().out
    assert len(lines("began.txt")) == 3


def test_a_finite_space_is_searched_once_and_no_further(capfd: pytest.CaptureFixture[str]) -> None:
    assert search("finetune.optimization.lr=choice(0.1,0.2)", "seed=range(3)", trials=50) == 0
    assert "all 6 combinations were tried" in capfd.readouterr().out
    assert len({tuple(trial["words"]) for trial in found()["trials"]}) == len(found()["trials"]) == 6


def test_several_objectives_end_in_all_trials_that_none_beats(capfd: pytest.CaptureFixture[str]) -> None:
    varied = "finetune.optimization.lr=choice(0.1,0.2,0.3)"
    assert search(varied, objective=["val/accuracy", "seconds"]) == 0
    told = found()
    assert told["objectives"] == [
        {"name": "finetune.val/accuracy", "better": "higher"},
        {"name": "seconds", "better": "lower"},
    ]
    assert sorted(best["values"] for best in told["best"]) == [[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]]
    assert "nothing is pruned" in capfd.readouterr().out


def test_importances_name_the_key_that_decides() -> None:
    search(LR, "seed=range(9)", trials=16, jobs=2, pruner="none")
    [shares] = found()["importances"].values()
    assert shares["finetune.optimization.lr"] > shares["seed"]
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"objective": ["test/accuracy"]}, "Choose by val/accuracy"),
        ({"objective": ["val/acuracy"]}, "Did you mean val/accuracy"),
        ({"objective": ["pretrain.val/accuracy"]}, "pretrain is not among stages=[finetune]"),
        ({"objective": ["val/knn_accuracy"]}, "finetune.evaluator=[accuracy,knn]"),
        ({"objective": ["better:val/mine"]}, "before the colon stands higher or lower"),
        ({"objective": ["seconds", "seconds"]}, "each once"),
        ({"fixed": "dataset.validation=none"}, "no validation images apart from the test images"),
        ({"watch": "seconds"}, "pruned by a validation metric"),
        ({"watch": "val/accuracy", "objective": ["val/accuracy", "seconds"]}, "for several objectives prunes nothing"),
        ({"budgets": [200]}, "from 1 to 99"),
        ({"trials": 0}, "hydra.sweeper.trials=0: it is 1 or more"),
        ({"jobs": "many"}, "hydra.sweeper.jobs=many: it is auto, or 1 or more"),
        ({"space": "finetun"}, "Did you mean finetune"),
        ({"storage": "no-such-database://x"}, "hydra.sweeper.storage=no-such-database://x: "),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        search(LR, **asked)
    assert said in str(refused.value)
    assert lines("began.txt") == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("finetune.optimization.lr=interval(2,1)", "from a lower to a higher number"),
        ("finetune.optimization.lr=tag(log,interval(0,1))", "above 0 with tag"),
        ("finetune.optimization.lrr=interval(1,2)", "Did you mean finetune.optimization.lr"),
        ("seed=range(3,3)", "this range is empty"),
        ("finetune.views=glob(no*)", "no option of views is like that"),
    ],
)
def test_a_word_that_spans_nothing_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        search(word)
    assert said in str(refused.value)


def test_a_search_without_anything_that_varies_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing varies"):
        search()


def test_a_storage_with_trials_of_other_settings_is_refused() -> None:
    search(LR, trials=1)
    with pytest.raises(ConfigError, match="had other settings beside those that vary"):
        search(LR, fixed="finetune.steps=200", trials=2)


def test_a_storage_with_trials_for_another_objective_is_refused() -> None:
    search(LR, trials=1)
    with pytest.raises(ConfigError, match=r"optimises finetune\.val/accuracy"):
        search(LR, objective=["val/macro_f1"], trials=2)


def test_an_interval_may_be_widened_and_the_search_goes_on() -> None:
    search(LR, trials=1)
    search(LR.replace("0.5", "0.9"), trials=2)
    assert len(found()["trials"]) == 2


def test_a_metric_that_no_job_has_fails_the_trials_with_what_there_is() -> None:
    assert search(LR, objective=["higher:val/mine"], trials=4) == 1
    assert "no finetune.val/mine; validation metrics of finetune: val/accuracy" in found()["trials"][0]["error"]


def test_a_line_that_a_kill_cut_off_does_not_spoil_the_storage() -> None:
    search(LR, trials=1)
    with Path("out/search.journal").open("a") as file:
        file.write('{"op_code":4,"worker_id":"x"')
    search(LR, trials=2)
    search(LR, trials=3)
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 3


@pytest.mark.parametrize("name", composition.options("search"))
def test_every_ready_space_fits_the_main_job_or_the_one_it_names(name: str) -> None:
    fixed = {"finetune": [], "small_vit": []}.get(name, ["stages=[pretrain]"])
    planned = planning.plan(
        replace(ASKED, fixed=[*fixed, "output_dir=out"], space=name),
        instantiate(SAMPLERS["tpe"]),
        instantiate(PRUNERS["none"]),
    )
    assert len(planned.space.distributions) >= 3
    for _ in range(3):
        trial = planned.study.ask()
        planning.checked([*fixed, *planned.space.words(claims.proposed(trial, planned.space))])
