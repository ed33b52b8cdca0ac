import copy
import io
from typing import Any

import pytest
from rich.console import Console

from smalldata_vit.reports.tables import comparison, markdown, show

COUNTS = ["1", "2", "5", "10", "all"]
RESULTS: dict[str, Any] = {
    "schema": 1,
    "name": "digits",
    "status": "finished",
    "stages": {
        "pretrain": {
            "metrics": {"val/knn_accuracy": 0.9, "test/knn_accuracy": 0.986}
            | {f"test/linear_accuracy@{n}": v for n, v in zip(COUNTS, [0.78, 0.91, 0.95, 0.96, 0.97], strict=True)},
            "untrained": {"test/knn_accuracy": 0.85}
            | {f"test/linear_accuracy@{n}": v for n, v in zip(COUNTS, [0.26, 0.38, 0.58, 0.71, 0.95], strict=True)},
            "seconds": 90.0,
        },
        "finetune": {"metrics": {"val/accuracy": 0.97, "test/accuracy": 0.965}, "labels_per_class": 10},
    },
    "baselines": {
        "pixels": {f"test/accuracy@{n}": v for n, v in zip(COUNTS, [0.56, 0.73, 0.87, 0.92, 0.98], strict=True)}
    },
}


def printed(results: dict[str, Any]) -> str:
    out = io.StringIO()
    show(results, Console(file=out, width=60))
    return out.getvalue()


def test_markdown_holds_every_number_in_its_column() -> None:
    lines = markdown(RESULTS).splitlines()
    assert lines[2] == "| | 1 | 2 | 5 | 10 | all |"
    assert lines[4:11] == [
        "| k-NN, untrained encoder | - | - | - | - | 85.0 |",
        "| k-NN, pretrained encoder | - | - | - | - | 98.6 |",
        "| linear probe, untrained encoder | 26.0 | 38.0 | 58.0 | 71.0 | 95.0 |",
        "| linear probe, pretrained encoder | 78.0 | 91.0 | 95.0 | 96.0 | 97.0 |",
        "| fine-tuned network | - | - | - | 96.5 | - |",
        "| fine-tuned network, validation | - | - | - | 97.0 | - |",
        "| SVM on raw pixels | 56.0 | 73.0 | 87.0 | 92.0 | 98.0 |",
    ]


def test_plain_text_is_ascii_without_lines_and_is_not_cut_off() -> None:
    text = printed(RESULTS)
    assert text.isascii()
    assert "linear probe, pretrained encoder   78.0   91.0   95.0   96.0   97.0\n" in text


def test_a_terminal_gets_lines() -> None:
    out = io.StringIO()
    show(RESULTS, Console(file=out, width=100, force_terminal=True))
    assert "│" in out.getvalue()


def test_where_pixels_do_as_well_the_table_says_so() -> None:
    assert "not better than the SVM on raw pixels at: all." in printed(RESULTS)


def test_fine_tuning_below_its_probe_is_said() -> None:
    results = copy.deepcopy(RESULTS)
    assert "ends below" not in printed(results)
    results["stages"]["finetune"]["metrics"]["test/accuracy"] = 0.9
    assert "finetune ends below the linear probe it could have started from: 90.0 against 96.0 %" in printed(results)


def test_training_from_scratch_with_all_labels_is_named_so() -> None:
    results = copy.deepcopy(RESULTS)
    del results["stages"]["pretrain"]
    results["stages"]["finetune"]["labels_per_class"] = None
    found = comparison(results)
    assert found.rows[0] == ("network from scratch", {"all": 0.965})


def test_a_failed_run_shows_what_there_is_and_its_status() -> None:
    found = comparison({"schema": 1, "name": "x", "status": "failed", "stages": {"pretrain": {"metrics": {}}}})
    assert found.rows == []
    assert "status: failed" in found.title


def test_a_number_that_was_not_finite_is_a_dash() -> None:
    results = copy.deepcopy(RESULTS)
    results["stages"]["finetune"]["metrics"]["test/accuracy"] = None
    assert "| fine-tuned network | - | - | - | - | - |" in markdown(results)


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="has schema 2; this version reads schema 1"):
        markdown({"schema": 2})
