"""The page in the distribution's Chromium, where there is one: both widths, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from asi_pa.report import render_html
from tests.report.compare_result import make_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
#: Put at the end of a page: what it looks like, as text in the document.
PROBE = """<script>addEventListener("load", async () => {
  const said = { wide: document.documentElement.scrollWidth, window: innerWidth,
    figure: document.querySelector("figure").getBoundingClientRect().top, high: innerHeight,
    background: getComputedStyle(document.body).backgroundColor, open: 0, over: [] };
  const wait = (time) => new Promise((done) => setTimeout(done, time));
  for (const details of document.querySelectorAll("details")) details.open = true;
  await wait(4000);
  said.before = document.querySelectorAll(".main-svg").length;
  dispatchEvent(new Event("beforeprint"));  // all of them, in view or not
  await wait(8000);
  said.opened = document.documentElement.scrollWidth;
  said.open = document.querySelectorAll(".main-svg").length;
  said.output = document.querySelector("output")?.textContent;
  for (const svg of document.querySelectorAll("figure svg")) {
    if (svg.getBoundingClientRect().right > innerWidth) said.over.push("svg");
  }
  parent.postMessage(JSON.stringify(said), "*");
});</script>"""


def look(page: str, tmp_path: Path, width: int, dark: bool) -> dict[str, Any]:
    """Open a page in a window of a width (in a frame: Chromium's own windows are not narrower than 500)."""
    pytest.importorskip("plotly")
    if CHROMIUM is None:
        pytest.skip("no chromium (apt-get install chromium)")
    if dark:
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all", 1)
    inner = tmp_path / "inner.html"
    inner.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    outer = tmp_path / "page.html"
    outer.write_text(
        f'<body style="margin:0"><iframe src="inner.html" style="border:0;width:{width}px;height:800px">'
        "</iframe>"
        "<script>addEventListener('message', (event) => { const pre = document.createElement('pre');"
        "pre.id = 'said'; pre.textContent = event.data; document.body.append(pre); });</script>",
        encoding="utf-8",
    )
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=60000", "--window-size=1400,900", "--dump-dom", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "CONSOLE" not in done.stderr
    (said,) = re.findall(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)
    found: dict[str, Any] = json.loads(unescape(said))
    return found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    result = make_result(traces=("redis",), columns=16, samples=40)
    said = look(render_html(result), tmp_path, width, dark)
    assert said["window"] == width
    assert said["wide"] <= width
    assert said["opened"] <= width
    assert said["over"] == []
    assert said["figure"] < said["high"]
    assert said["background"] == ("rgb(18, 23, 29)" if dark else "rgb(255, 255, 255)")
    assert said["open"] >= 8
    assert said["before"] < said["open"]
    assert re.fullmatch(r"operation [\d,]+ of [\d,]+, [\d.]+ s", said["output"])
