"""A golden curve guards refactorings: a change of any digit is explained in the commit that makes it."""

from pathlib import Path

import pytest
from command import TINY, succeed

from smalldata_vit.metrics import read_metrics

GOLDEN = Path(__file__).parent / "golden" / "dino_digits.txt"


def test_ten_losses_of_a_seeded_run_are_those_in_the_file(tmp_path: Path) -> None:
    """Relative tolerance 1e-5: processors order the sums of a matrix product differently."""
    succeed(*TINY, "stages=[pretrain]", "pretrain.steps=10", f"output_dir={tmp_path}")
    rows = read_metrics(tmp_path / "pretrain" / "metrics.csv")
    losses = [row.value for row in rows if row.name == "train/loss"]
    assert losses == pytest.approx([float(line) for line in GOLDEN.read_text().split()], rel=1e-5)
