"""The pages in a real browser: without errors, without network, in light and dark, at one and two pixels a unit."""

import json
import subprocess
import sys
from pathlib import Path

import made_compare
import made_runs
import pytest
from browsing import browse, needs_browser, opened
from PIL import Image

from smalldata_vit.reports.compare import write_compare_report
from smalldata_vit.reports.run_page import write_run_report
from smalldata_vit.reports.sweep_page import write_sweep_report

ROOT = Path(__file__).parents[2]

pytestmark = needs_browser


def test_the_report_of_a_run_opens_without_errors_or_network_and_has_its_numbers(tmp_path: Path) -> None:
    folder = made_runs.make_run(tmp_path / "run", accuracy=0.875)
    page = opened(write_run_report(folder))
    assert page.row("fine-tuned network")[1:] == ["87.5", "–"]


def test_the_report_of_a_comparison_opens_without_errors_or_network_and_has_its_numbers(tmp_path: Path) -> None:
    folder = made_compare.make_compare(tmp_path / "compare")
    page = opened(write_compare_report(folder), scheme="dark", scale=2)
    rows = made_compare.expected_rows(folder, made_compare.COUNTS)
    assert {name: page.row(name)[1:] for name in rows} == rows


@pytest.fixture(scope="module", params=["run", "sweep", "compare"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "made"
    if request.param == "run":
        return write_run_report(made_runs.make_run(folder))
    if request.param == "sweep":
        return write_sweep_report(made_runs.make_sweep(folder))
    return write_compare_report(made_compare.make_compare(folder))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_renders_in_a_browser(report: Path, scheme: str, scale: int) -> None:
    assert opened(report, scheme, scale).rows


@pytest.mark.slow
def test_a_page_is_more_than_an_empty_sheet(report: Path) -> None:
    picture = report.with_name("page.png")
    browse(report, f"--screenshot={picture}")
    with Image.open(picture) as shot:
        colours = shot.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None
    assert len(colours) > 50


@pytest.mark.slow
def test_the_report_of_the_main_job_has_the_numbers_of_its_results(tmp_path: Path) -> None:
    words = ["pretrain.steps=20", "finetune.steps=10", "store=null", f"output_dir={tmp_path / 'run'}"]
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, timeout=600, capture_output=True)
    page = opened(tmp_path / "run" / "report.html")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    stages, pixels = results["stages"], results["baselines"]["pixels"]
    columns = page.row("test accuracy in %, by labelled images per class")[1:]
    assert columns == ["1", "2", "5", "10", "all"]
    for name, numbers, prefix in (
        ("linear probe, pretrained encoder", stages["pretrain"]["metrics"], "test/linear_accuracy@"),
        ("linear probe, untrained encoder", stages["pretrain"]["untrained"], "test/linear_accuracy@"),
        ("SVM on raw pixels", pixels, "test/accuracy@"),
    ):
        assert page.row(name)[1:] == [f"{100 * numbers[prefix + column]:.1f}" for column in columns]
    reached = f"{100 * stages['finetune']['metrics']['test/accuracy']:.1f}"
    assert page.row("fine-tuned network")[1:] == ["–", "–", "–", reached, "–"]
    assert f"{reached} % test accuracy with 10 labels per class" in page.text


@pytest.mark.slow
def test_a_short_comparison_runs_and_its_report_has_the_numbers_of_its_results(tmp_path: Path) -> None:
    words = ["--seeds", "0,1", "--labels", "1,10", "pretrain.steps=4", "finetune.steps=2"]
    command = [sys.executable, "-m", "smalldata_vit.reports.compare", *words]
    subprocess.run(command, check=True, timeout=1500, capture_output=True, cwd=tmp_path)
    (folder,) = (tmp_path / "outputs").glob("compare_*")
    page = opened(folder / "report.html")
    rows = made_compare.expected_rows(folder, ("1", "10"))
    assert len(list(folder.glob("*/*/results.json"))) == 12
    assert {name: page.row(name)[1:] for name in rows} == rows
