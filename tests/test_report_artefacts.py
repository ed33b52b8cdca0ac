"""What a stage leaves for its report: what a classifier said of each image, and what the network saw."""

import sys
from pathlib import Path

import command
import numpy as np
import pytest

from smalldata_vit.reports import ending

WORDS = (*(word for word in command.FINETUNE if word != "report=false"), "debug=true")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    command.succeed(*WORDS, f"output_dir={folder}")
    return folder


def test_what_was_said_of_each_image_gives_the_accuracy_of_the_results(finished: Path) -> None:
    metrics = command.results(finished)["stages"]["finetune"]["metrics"]
    with np.load(finished / "finetune" / "predictions.npz") as kept:
        for split in ("val", "test"):
            right = kept[f"{split}_named"] == kept[f"{split}_label"]
            assert right.mean() == pytest.approx(metrics[f"{split}/accuracy"])
            assert np.allclose(kept[f"{split}_probabilities"].astype(np.float32).sum(1), 1, atol=2e-3)


def test_the_gravest_mistakes_are_mistakes_in_order(finished: Path) -> None:
    with np.load(finished / "finetune" / "predictions.npz") as kept:
        place, true, said = kept["test_mistakes"].T
        assert (true == kept["test_label"][place]).all()
        assert (said == kept["test_named"][place]).all()
        assert (true != said).all()
        sure = kept["test_odds"][:, 1]
        assert (np.diff(sure.astype(np.float32)) <= 0).all()
        assert len(kept["test_pictures"]) == len(place) == 24


def test_the_pictures_are_the_images_of_the_dataset(finished: Path) -> None:
    from sklearn.datasets import load_digits

    known = {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images}
    with np.load(finished / "finetune" / "predictions.npz") as kept:
        assert all(picture[..., 0].tobytes() in known for picture in kept["test_pictures"])
    with np.load(finished / "finetune" / "views.npz") as seen:
        assert all(picture[..., 0].tobytes() in known for picture in seen["plain"])


def test_the_views_are_those_of_the_config(finished: Path) -> None:
    with np.load(finished / "finetune" / "views.npz") as seen:
        groups = [name for name in seen.files if name.startswith("views_")]
        assert len(groups) == 1
        assert seen[groups[0]].shape == (6, 1, 8, 8, 3)
        assert seen["index"].shape == (6,)


def test_a_finished_run_has_a_report_with_its_numbers(finished: Path) -> None:
    accuracy = command.results(finished)["stages"]["finetune"]["metrics"]["test/accuracy"]
    assert f"<strong>{100 * accuracy:.1f} %</strong>" in (finished / "report.html").read_text()


def test_a_report_that_cannot_be_drawn_is_said_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "smalldata_vit.reports.run_page", None)  # as if matplotlib were not there
    ending.draw_report(tmp_path / "a run")
    said = capsys.readouterr().err
    assert said.startswith("report.html was not drawn: ModuleNotFoundError: ")
    assert f"(pip install matplotlib); python -m smalldata_vit.reports '{tmp_path}/a run' tries again" in said
