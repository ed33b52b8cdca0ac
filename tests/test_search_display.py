"""What a person sees while a search runs: the table on a terminal, and the sentences that are kept beside it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.utils import instantiate
from optuna.trial import TrialState
from rich.console import Console
from test_search import ASKED

from hydra_plugins.smalldata_vit.search import PRUNERS, SAMPLERS
from smalldata_vit.jobs import Job
from smalldata_vit.search.claims import proposed
from smalldata_vit.search.display import Display
from smalldata_vit.search.planning import Plan, plan

HEAD, FOOT = 2, 2
"""Lines of the table above and below its trials."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A search with four trials: two that are complete, one that failed, and one that runs in `3`."""
    folder = tmp_path_factory.mktemp("search")
    fixed = ["method=supervised", f"output_dir={folder}"]
    asked = replace(ASKED, fixed=fixed, folder=folder, space="finetune", storage=None)
    made = plan(asked, instantiate(SAMPLERS["random"]), instantiate(PRUNERS["median"]))
    for value in (0.5, 0.75, None, ...):
        trial = made.study.ask()
        trial.set_user_attr("words", made.space.words(proposed(trial, made.space)))
        trial.set_user_attr("seconds", 60.0)
        if value is None:
            made.study.tell(trial, state=TrialState.FAIL)
        elif value is not ...:
            made.study.tell(trial, value)
    stage = folder / "3" / "finetune"
    stage.mkdir(parents=True)
    (stage / "metrics.csv").write_text("step,epoch,seconds,name,value\n")
    return made


def shown(plan: Plan, width: int, height: int = 20) -> list[str]:
    """The lines of the table after its running trial has got on."""
    folder = plan.asked.place / "3"
    display = Display(plan, slots=1, moves=False)
    running = {3: Job(3, [], [], folder, Path("run.py"))}
    display.follow(running[3])
    (folder / "job.log").write_text("finetune: Supervised on 100 images, 40 steps of 64 (one pass a device)\n")
    (folder / "finetune" / "metrics.csv").write_text("step,epoch,seconds,name,value\n10,1,0.1,val/accuracy,0.25\n")
    console = Console(width=width)
    with console.capture() as captured:
        console.print(display.table(running, width, height))
    (folder / "job.log").unlink()
    return captured.get().splitlines()


def test_the_table_tells_what_ended_how_and_how_far_the_rest_is(planned: Plan) -> None:
    trials = {line.split()[0]: line for line in shown(planned, 140)[:-FOOT]}
    assert "complete" in trials["1"]
    assert trials["1"].rstrip().endswith("0.75")
    assert "failed" in trials["2"]
    assert "25 %" in trials["3"]
    assert "0.25 so far" in trials["3"]


def test_the_foot_counts_the_trials_and_names_the_best(planned: Plan) -> None:
    said = " ".join(" ".join(shown(planned, 140)[-FOOT:]).split())
    assert "1 running, 2 complete, 0 pruned, 1 failed, 16 to go, about 16 min" in said
    assert said.endswith("best: finetune.val/accuracy 0.75 (trial 1)")


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_its_terminal_and_shows_every_override(planned: Plan, width: int) -> None:
    lines = shown(planned, width)
    assert max(map(len, lines)) <= width
    [running] = [line for line in lines if line.lstrip().startswith("3 ")]
    assert len([word for word in running.split() if "=" in word or "…" in word]) == len(planned.space.distributions)


def test_of_more_trials_than_lines_those_that_run_are_shown_first(planned: Plan) -> None:
    numbers = [line.split()[0] for line in shown(planned, 140, height=2)[HEAD:-FOOT]]
    assert numbers == ["2", "3"]


def test_beside_a_moving_table_only_what_is_wrong_is_said_and_the_log_holds_all(
    planned: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(planned, slots=1, moves=True)
    with display:
        display.tell(0, "finished: fine")
        display.tell(2, "failed: the disk is full", wrong=True)
    printed = capsys.readouterr().out
    assert "trial 2 failed: the disk is full" in printed
    assert "trial 0" not in printed
    kept = (planned.asked.place / "search.log").read_text()
    assert [line.split(maxsplit=2)[2] for line in kept.splitlines()] == [
        "trial 0 finished: fine",
        "trial 2 failed: the disk is full",
    ]
