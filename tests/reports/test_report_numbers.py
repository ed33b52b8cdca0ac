"""Intervals, paired tests, calibration, curves and grouping: numbers against those of others, or written out."""

import json
import math
import re
from pathlib import Path

import made_runs
import numpy as np
import pytest
from scipy import stats

from smalldata_vit.reports.arms import against, arms_of, baseline_of, brief_keys
from smalldata_vit.reports.calibration import reliability
from smalldata_vit.reports.curves import Curve, curves_of, mean_curve, thinned, validation_curve
from smalldata_vit.reports.drawing import lines, reused_axes
from smalldata_vit.reports.intervals import interval, paired
from smalldata_vit.reports.mattered import explained, together
from smalldata_vit.reports.records import find_runs, read_run, spent


def test_an_interval_is_that_of_scipy() -> None:
    values = [0.91, 0.93, 0.925, 0.90]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values)
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_interval() -> None:
    assert interval([0.9]).half is None


def test_a_paired_difference_is_that_of_scipy_over_the_common_seeds() -> None:
    one, other = {0: 0.91, 1: 0.93, 2: 0.925, 7: 0.1}, {0: 0.90, 1: 0.91, 2: 0.92, 8: 0.9}
    expected = stats.ttest_rel([0.91, 0.93, 0.925], [0.90, 0.91, 0.92])
    low, high = expected.confidence_interval(0.95)
    found = paired(one, other)
    assert found is not None
    assert found.difference.half is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert 2 * found.difference.half == pytest.approx(high - low)
    assert found.difference.mean == pytest.approx((low + high) / 2)


def test_seeds_that_nobody_shares_give_no_difference() -> None:
    assert paired({0: 0.9}, {1: 0.8}) is None


def test_the_calibration_error_is_the_mean_gap_written_out() -> None:
    random = np.random.default_rng(3)
    confidence, right = random.uniform(0.1, 1.0, 500), random.random(500) < 0.7
    gap = 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    found = reliability(confidence, right)
    assert found is not None
    assert found.ece == pytest.approx(gap)
    assert found.overconfident == pytest.approx(confidence.mean() - right.mean())
    assert sum(found.count) == 500


def test_a_thinned_curve_keeps_its_peaks() -> None:
    values = [math.sin(step / 50) for step in range(50_000)]
    values[31_337] = 40.0
    found = thinned(Curve("loss", [float(step) for step in range(50_000)], values))
    assert len(found) <= 2000
    assert max(found.value) == 40.0
    assert found.epoch == sorted(found.epoch)


def test_the_quick_reader_finds_what_the_whole_reader_finds(tmp_path: Path) -> None:
    stage = made_runs.make_run(tmp_path / "run") / "finetune"
    quick, whole = validation_curve(stage, "val/accuracy"), curves_of(stage)["val/accuracy"]
    assert (quick.epoch, quick.value) == (whole.epoch, whole.value)
    assert len(quick) == 5


def test_a_mean_curve_has_the_epochs_of_all() -> None:
    found = mean_curve([Curve("a", [1, 2, 3], [1.0, 2.0, 3.0]), Curve("a", [1, 3], [3.0, 5.0])])
    assert (found.epoch, found.value) == ([1, 3], [2.0, 4.0])


def test_runs_that_differ_in_their_seed_alone_are_one_arm(tmp_path: Path) -> None:
    arms = arms_of(find_runs(made_runs.make_sweep(tmp_path)))
    found = {arm.label: sorted(run.seed for run in arm.runs) for arm in arms}
    assert found == {label: [0, 1, 2] for label in made_runs.ACCURACIES}


def test_a_failed_run_counts_with_the_finished_ones_that_were_typed_alike(tmp_path: Path) -> None:
    made_runs.make_run(tmp_path / "a", seed=0)
    made_runs.make_run(tmp_path / "b", seed=1, status="failed")
    (tmp_path / "b" / "finetune" / "config.yaml").unlink()
    arms = arms_of(find_runs(tmp_path))
    assert [(len(arm.runs), len(arm.finished)) for arm in arms] == [(2, 1)]


def test_the_number_of_labels_makes_an_arm_of_the_same_label(tmp_path: Path) -> None:
    for labels in (1, 10):
        made_runs.make_run(tmp_path / str(labels), labels=labels)
    arms = arms_of(find_runs(tmp_path))
    assert [arm.labels for arm in arms] == [1, 10]
    assert len({arm.label for arm in arms}) == 1


def test_what_starts_from_nothing_is_the_baseline_unless_another_is_named(tmp_path: Path) -> None:
    arms = arms_of(find_runs(made_runs.make_sweep(tmp_path)))
    assert baseline_of(arms, None, "val/accuracy") == "method=supervised"
    assert baseline_of(arms, "dino", "val/accuracy") == "method=dino"
    with pytest.raises(ValueError, match="'method' fits 3 arms; there are: method=dino"):
        baseline_of(arms, "method", "val/accuracy")


def test_the_difference_to_the_baseline_is_paired(tmp_path: Path) -> None:
    arms = arms_of(find_runs(made_runs.make_sweep(tmp_path)))
    found = against(arms[0], arms, "method=supervised", "test/accuracy")
    one, other = (made_runs.ACCURACIES[name] for name in ("method=dino", "method=supervised"))
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(one, other).pvalue)


def test_keys_are_shortened_as_far_as_they_stay_different() -> None:
    names = ["finetune.optimization.lr", "pretrain.optimization.lr", "method", "arch.depth"]
    assert list(brief_keys(names).values()) == [
        "finetune.optimization.lr",
        "pretrain.optimization.lr",
        "method",
        "depth",
    ]


def test_a_key_that_decides_everything_explains_everything() -> None:
    assert explained(["a", "a", "b", "b"], [1.0, 1.0, 2.0, 2.0]) == pytest.approx(1)
    assert explained(["a", "b", "a", "b"], [1.0, 1.0, 2.0, 2.0]) == pytest.approx(0)


def test_a_folder_without_a_run_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no results\.json: a report needs the output folder of a run"):
        read_run(tmp_path)


def test_keys_that_only_changed_together_are_one() -> None:
    keys = {"lr": ["1", "1", "2"], "steps": ["8", "8", "9"], "arch": ["a", "b", "b"], "width": ["x", "x", "y"]}
    assert [names for names, _ in together(keys)] == [["lr", "steps", "width"], ["arch"]]


def test_stages_that_runs_share_are_paid_once(tmp_path: Path) -> None:
    for labels in (1, 10):
        folder = made_runs.make_run(tmp_path / str(labels), labels=labels)
        results = json.loads((folder / "results.json").read_text())
        results["stages"]["pretrain"]["key"] = "shared"
        (folder / "results.json").write_text(json.dumps(results))
    assert spent(find_runs(tmp_path), "seconds") == 40 + 2 * 20


def test_a_cost_is_not_told_where_one_stage_has_none(tmp_path: Path) -> None:
    made_runs.make_run(tmp_path / "run")
    arm = arms_of(find_runs(tmp_path))[0]
    assert arm.cost("joules") is None
    assert arm.cost("seconds") == interval([60.0])


def test_axes_that_are_used_again_hold_nothing_of_what_they_held() -> None:
    def drawn(title: str, y: list[float]) -> str:
        return re.sub(r'(id="|#)[\w-]+', "", lines(title, {"a": ([0, 1], y)}, "epoch").svg)

    first = drawn("loss", [0.0, 1.0])
    drawn("loss", [100.0, 900.0])
    with reused_axes() as used:
        used.bar([0, 1], [5, 6])
        used.set(xlim=(-7, 7))
    assert drawn("loss", [0.0, 1.0]) == first
