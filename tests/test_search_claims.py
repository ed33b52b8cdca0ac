"""Whose a trial is after the search that began it died: counted, decided, or half begun."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.utils import instantiate
from test_search import ASKED, LR, STUB, found, search

from hydra_plugins.smalldata_vit.search import PRUNERS, SAMPLERS
from smalldata_vit.search import claims, planning
from smalldata_vit.search.storage import opened


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches run in a folder of the test, with a script in place of run.py."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)


def taken(decide: Callable[[claims.Claims, claims.Claim], None]) -> tuple[claims.Claim, Any]:
    """The trial that a search takes after one that took a trial, decided on it and died; and the study."""
    fixed = ["method=supervised", "output_dir=out"]
    asked = replace(ASKED, fixed=fixed, swept=[LR, "seed=range(9)"], storage=None)
    planned = planning.plan(asked, instantiate(SAMPLERS["random"]), instantiate(PRUNERS["median"]))

    def those() -> claims.Claims:
        return claims.Claims(planned.study, planned.space, Path("out"), 9, planned.turn, free=lambda folder: True)

    for _ in range(claims.MOST_KILLS + 1):
        with those() as dead:
            claim = dead.next()
            assert claim is not None
            decide(dead, claim)
    with those() as living:
        claim = living.next()
    assert claim is not None
    return claim, planned.study


def test_a_search_that_is_stopped_again_and_again_keeps_its_trial() -> None:
    claim, _ = taken(lambda search, claim: None)
    assert (claim.number, claim.continued) == (0, True)


def test_only_jobs_that_were_killed_count_against_a_trial() -> None:
    assert taken(lambda search, claim: search.give_back(claim, killed=False))[0].number == 0


def test_a_trial_that_was_to_be_pruned_is_when_its_search_died_meanwhile() -> None:
    claim, study = taken(lambda search, claim: search.prune(claim))
    assert {trial.state.name for trial in study.trials[: claim.number]} == {"PRUNED"}
    assert claim.number == claims.MOST_KILLS + 1


def test_a_trial_of_which_a_dead_search_knew_half_the_values_is_begun_by_the_next() -> None:
    search(LR, "seed=range(9)", trials=1)
    [study] = optuna.get_all_study_names(storage := opened("out/search.journal", Path("out")))
    optuna.load_study(study_name=study, storage=storage).ask().suggest_int("seed", 0, 8)
    assert search(LR, "seed=range(9)", trials=3) == 0
    assert [trial["state"] for trial in found()["trials"]] == ["complete"] * 3
