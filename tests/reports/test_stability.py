"""Stability: the numbers of runs, what is made of them, and the command, with runs that a test made up and with one."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smalldata_vit.metrics import MetricsFile
from smalldata_vit.reports import stability
from smalldata_vit.reports.stability_numbers import Run, markdown, over_lrs, over_seeds, remarks, summary


def run(factor: float = 1.0, seed: int = 0, knn: Sequence[float] = (0.5, 0.7, 0.9), **changed: Any) -> Run:
    """Judged every ten steps; its loss falls from 8 to 4."""
    given = {"method": "idmm", "lr": 0.1 * factor, "outcome": "finished", "loss": [(10, 8.0), (20, 4.0)]} | changed
    return Run(factor=factor, seed=seed, knn=[(10 * i, value) for i, value in enumerate(knn)], **given)


def test_the_steps_needed_are_those_to_the_first_judgement_with_nine_tenths_of_the_final_gain() -> None:
    assert run(knn=(0.5, 0.6, 0.861, 0.7, 0.9)).steps_needed == 20
    assert run(knn=(0.5, 0.6, 0.859, 0.7, 0.9)).steps_needed == 40


def test_a_run_that_ends_no_better_than_untrained_has_collapsed_and_needs_no_steps() -> None:
    assert [run(knn=(0.5, 0.8, last)).collapsed for last in (0.4, 0.5, 0.51)] == [True, True, False]
    assert run(knn=(0.5, 0.8, 0.5)).steps_needed is None


def test_rises_are_what_a_loss_went_up_over_what_it_fell() -> None:
    curve = [(1, 8.0), (2, 6.0), (3, 7.0), (4, 4.0), (5, 4.5)]
    assert run(loss=curve).rises == pytest.approx(1.5 / 4)
    assert run(loss=[(1, 8.0), (2, 7.0), (3, 5.0)]).rises == 0
    assert run(loss=[(1, 8.0), (2, 9.0)]).rises is None
    assert run(loss=[(1, 8.0), (2, 6.0), (3, math.nan)]).rises == 0


def test_the_spread_over_seeds_is_within_learning_rates_and_that_over_learning_rates_between_their_means() -> None:
    finals = {0.5: (0.7, 0.9), 1.0: (0.8, 0.8), 2.0: (0.4, 0.6)}
    runs = [run(factor, seed, (0.1, one)) for factor, pair in finals.items() for seed, one in enumerate(pair)]
    assert over_seeds(runs, lambda one: one.final) == pytest.approx(((0.02 + 0 + 0.02) / 3) ** 0.5)
    assert over_lrs(runs, lambda one: one.final) == pytest.approx(0.1732, abs=1e-4)


def test_without_a_second_seed_or_learning_rate_there_is_no_spread() -> None:
    assert over_seeds([run(0.5), run(1.0)], lambda one: one.final) is None
    assert over_lrs([run(seed=0), run(seed=1)], lambda one: one.final) is None


RUNS = {
    "idmm": [run(seed=0), run(seed=1, knn=(0.5, 0.8, 0.8))],
    "dino": [run(method="dino", outcome="diverged"), run(method="dino", seed=1, knn=(0.5, 0.6, 0.5), images=100)],
}


def test_a_run_that_diverged_counts_as_failed_and_not_in_the_means() -> None:
    found = summary(RUNS["dino"])
    assert (found["diverged"], found["collapsed"], found["failed_share"]) == (1, 1, 1.0)
    assert found["knn"] == 0.5


def test_the_table_has_a_row_a_method_and_a_dash_where_there_is_no_number() -> None:
    table = markdown({method: summary(some) for method, some in RUNS.items()})
    spread = "7.1 | – |"
    assert f"| idmm | 85.0 | {spread} 15 | 7 | – | 8 → 4 | 0.0 | – | 0.0 | 0 of 2 | 0 |" in table
    assert "| dino | 50.0 | – | – | – | – | – | 8 → 4 | – | – | 0.0 | 2 of 2 | 1 |" in table


def test_the_remarks_put_the_steadiest_first_and_say_who_saw_other_images() -> None:
    several = {**RUNS, "idmm": [run(images=1197)]}
    said = remarks({method: summary(some) for method, some in several.items()})
    assert "Runs that failed, least first: idmm, dino." in said
    assert "Training images: idmm 1,197, dino 100." in said


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from smalldata_vit.reports.stability_picture import draw

    draw(RUNS, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


class MadeUp:
    """In the place of the command line's multirun: leaves a folder for every planned run, as run.py would."""

    def __init__(self, out: Path, words: list[str], error: str | None = None) -> None:
        self.asked, self.error, self.commands = stability.read(words), error, list[list[str]]()
        self.out = out

    def __call__(self, command: list[str]) -> int:
        self.commands.append(command)
        for number, one in enumerate(stability.plan(self.asked, "idmm")):
            self.leave(self.out / "runs" / "idmm" / f"job{number}", one.hash, self.error if number == 0 else None)
        return 0 if self.error is None else 1

    def leave(self, folder: Path, known: str, error: str | None) -> None:
        rows = MetricsFile(folder / "pretrain" / "metrics.csv")
        for step in (10, 20, 30):
            rows.write(step, step / 10, 1.0, {"train/loss": 8 - step / 10, "val/knn_accuracy": 0.5 + step / 100})
        rows.close()
        stage = {"untrained": {"val/knn_accuracy": 0.5}, "train_images": 100, "warnings": []}
        status = "finished" if error is None else "failed"
        stage = {"status": status, "error": error} if error else stage
        record = {"status": status, "error": error, "config_hash": known, "stages": {"pretrain": stage}}
        (folder / "results.json").write_text(json.dumps(record))


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return ["--methods", "idmm", "--seeds", "0,1", "--lrs", "1,2", "--steps", "30", "--out", str(tmp_path / "out")]


def test_the_command_writes_table_numbers_picture_and_raw_results_and_runs_nothing_twice(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    made_up = MadeUp(tmp_path / "out", words)
    monkeypatch.setattr(stability, "supervise", made_up)
    assert stability.main(words) == stability.main(words) == 0
    assert len(made_up.commands) == 1
    assert {"pretrain.optimization.lr=0.0005,0.001", "seed=0,1", "pretrain.steps=30"} <= set(made_up.commands[0])
    found = json.loads((tmp_path / "out" / "stability.json").read_text())
    assert found["methods"]["idmm"]["steps_needed"] == 30
    assert found["runs"][0]["knn"] == [[0, 0.5], [10, 0.6], [20, 0.7], [30, 0.8]]
    left = sorted(path.name for path in (tmp_path / "out" / "raw").iterdir())
    assert left == [f"idmm_lr{factor}_seed{seed}.json" for factor in (1, 2) for seed in (0, 1)]
    assert "| idmm | 80.0 |" in (tmp_path / "out" / "stability.md").read_text()
    assert (tmp_path / "out" / "stability.png").exists()


@pytest.mark.parametrize(
    ("error", "status", "failed"),
    [("NonFiniteLoss: step 20: train/loss is not finite.", 0, "1 of 4"), ("ValueError: no images", 1, "0 of 3")],
)
def test_only_a_loss_that_is_no_number_makes_a_failure_a_result(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: str, status: int, failed: str,
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(stability, "supervise", MadeUp(tmp_path / "out", words, error))
    assert stability.main(words) == status
    assert f"| {failed} |" in (tmp_path / "out" / "stability.md").read_text()
    assert ("idmm_lr1_seed0: failed: ValueError: no images" in capsys.readouterr().err) is (status == 1)


def test_an_interrupted_sweep_ends_the_command_with_its_status(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stability, "supervise", lambda command: 130)
    assert stability.main(words) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (["--lrs", "fast"], "--lrs fast: numbers with commas"),
        (["--lrs", "0,1"], "a factor on a learning rate is more than 0"),
        (["--methods", "idm"], "Did you mean idmm?"),
        (["pretrain.stepz=3"], "stepz"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_runs(
    word: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stability.main(word) == 2
    assert said in capsys.readouterr().err


def test_the_real_command_line_leaves_runs_that_are_found_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = ["arch.depth=1", "arch.width=16", "arch.heads=2", "trainer=cpu", "store=null", "pretrain.batch_size=256"]
    words = ["--methods", "idmm", "--seeds", "0", "--lrs", "2", "--steps", "4", "--every", "0.5", *sizes]
    command = [sys.executable, "-m", "smalldata_vit.reports.stability", *words, "--out", str(tmp_path / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    [found] = json.loads((tmp_path / "out" / "stability.json").read_text())["runs"]
    assert (found["lr"], found["outcome"]) == (0.001, "finished")
    assert [step for step, _ in found["knn"]] == [0, 2, 4]
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]
