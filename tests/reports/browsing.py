"""A headless browser that opens a page and tells what it found: errors, what was loaded, sizes and colours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from read_pages import Read

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
  outside: [...document.querySelectorAll("svg text")].filter(t => t.getBoundingClientRect().left < 0
    || t.getBoundingClientRect().right > document.documentElement.clientWidth).map(t => t.textContent),
  paper: getComputedStyle(document.body).backgroundColor,
  line: getComputedStyle(document.querySelector("svg path[style*='--s1']")).stroke }); });
</script>"""
PAPER = {"light": "rgb(252, 252, 250)", "dark": "rgb(22, 24, 27)"}
LINE = {"light": "rgb(13, 112, 104)", "dark": "rgb(76, 192, 178)"}

needs_browser = pytest.mark.skipif(
    not BROWSER, reason="there is no browser here to open a page in: apt-get install chromium"
)


def browse(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [BROWSER, *QUIET, f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", *words]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)


def opened(report: Path, scheme: str = "light", scale: int = 1) -> Read:
    """The page as it stands in the browser, which must have drawn it whole, without an error and without a network."""
    page = report.with_name("probed.html")
    page.write_text(report.read_text().replace("</body>", PROBE + "</body>"))
    setting = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    done = browse(page, setting, f"--force-device-scale-factor={scale}", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.split('<pre id="probe">')[1].split("</pre>")[0])
    assert (found["errors"], found["loaded"], found["broken"], found["outside"]) == ([], [], 0, [])
    assert (found["ratio"], found["paper"], found["line"]) == (scale, PAPER[scheme], LINE[scheme])
    assert found["plots"] > 10
    assert found["wide"] <= found["room"]
    return Read(done.stdout)
