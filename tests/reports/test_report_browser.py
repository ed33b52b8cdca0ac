"""The pages in a real browser: without errors, without network, in light and dark, at one and two pixels a unit."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import made_runs
import pytest
from PIL import Image

from smalldata_vit.reports.run_page import write_run_report
from smalldata_vit.reports.sweep_page import write_sweep_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--window-size=1000,700",
)
PROBE = """<pre id="probe"></pre><script>
const errors = []; window.addEventListener("error", e => errors.push(e.message || e.target.src), true);
window.addEventListener("load", () => { document.getElementById("probe").textContent = JSON.stringify({
  errors: errors, loaded: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
  broken: [...document.images].filter(i => !i.naturalWidth).length, plots: document.querySelectorAll("svg path").length,
  ratio: devicePixelRatio, wide: document.documentElement.scrollWidth, room: document.documentElement.clientWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  line: getComputedStyle(document.querySelector("svg path[style*='--s1']")).stroke }); });
</script>"""
PAPER = {"light": "rgb(252, 252, 250)", "dark": "rgb(22, 24, 27)"}
LINE = {"light": "rgb(13, 112, 104)", "dark": "rgb(76, 192, 178)"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module", params=["run", "sweep"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "made"
    if request.param == "run":
        return write_run_report(made_runs.make_run(folder))
    return write_sweep_report(made_runs.make_sweep(folder))


def browse(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [BROWSER, *QUIET, f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", *words]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_renders_in_a_browser(report: Path, scheme: str, scale: int) -> None:
    page = report.with_name("probed.html")
    page.write_text(report.read_text().replace("</body>", PROBE + "</body>"))
    setting = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    done = browse(page, setting, f"--force-device-scale-factor={scale}", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.split('<pre id="probe">')[1].split("</pre>")[0])
    assert (found["errors"], found["loaded"], found["broken"]) == ([], [], 0)
    assert (found["ratio"], found["paper"], found["line"]) == (scale, PAPER[scheme], LINE[scheme])
    assert found["plots"] > 10
    assert found["wide"] <= found["room"]


def test_a_page_is_more_than_an_empty_sheet(report: Path) -> None:
    picture = report.with_name("page.png")
    browse(report, f"--screenshot={picture}")
    with Image.open(picture) as opened:
        colours = opened.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None
    assert len(colours) > 50
