"""How long a page of ``asi-pa compare --html`` takes in headless Chromium, and how large it is.

``python -m benchmarks.page FILE [--times N]`` opens it from disk, as a reader does, its first run as soon as
the document is there, and prints the bytes, when the first screen was painted, and when every figure in the
window was drawn: medians, from opening on.  A server on this machine only hears what the page says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
    "--remote-debugging-port=0", "--window-size=1280,800",
)  # fmt: skip
#: Opens the runs, scrolls to the first of them, and tells when all plots in the window are there.
PROBE = """<script>(() => {
  const said = {};
  const tell = () => fetch("PLACE", { method: "POST", mode: "no-cors", body: JSON.stringify(said) });
  const inside = (node) => { const box = node.getBoundingClientRect();
    return box.width && box.bottom > 0 && box.top < innerHeight; };
  const panel = document.querySelector(".panel");
  for (let at = panel; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  panel.querySelector(".plot").scrollIntoView();
  const look = () => {
    const plots = [...panel.querySelectorAll(".plot")].filter(inside);
    if (plots.length && plots.every((node) => node.querySelector(".main-svg"))) {
      said.drawn = performance.now();
      said.plots = plots.length;
      for (const each of performance.getEntriesByType("paint")) said[each.name] = each.startTime;
      said.parsed = performance.getEntriesByType("navigation")[0].domInteractive;
      tell();
    } else setTimeout(look, 5);
  };
  look();
})();</script>"""


def renderer_ms(folder: str) -> float:
    """Processor time so far of the main thread of the browser's busiest renderer."""
    ticks = [0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            if "--type=renderer" in command and folder in command:
                words = (process / "task" / process.name / "stat").read_text().rsplit(")", 1)[1].split()
                ticks.append(int(words[11]) + int(words[12]))
        except (OSError, UnicodeDecodeError):
            continue
    return 1000 * max(ticks) / os.sysconf("SC_CLK_TCK")


def opened(page: str, chromium: str) -> dict[str, Any]:
    """One opening: what the probe said, ms."""
    heard: list[bytes] = []
    done = threading.Event()

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_: Any) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = Path(folder) / "page.html"
        probe = PROBE.replace("PLACE", f"http://127.0.0.1:{server.server_port}/")
        file.write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
        command = [chromium, *OPTIONS, f"--user-data-dir={folder}/profile", file.as_uri()]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not done.wait(120):
                raise TimeoutError("the page said nothing in two minutes")
            used = renderer_ms(folder)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    found: dict[str, Any] = json.loads(heard[0])
    return found | {"used": used}


def measure(path: Path, times: int = 5) -> dict[str, float]:
    """Medians of some openings: ``first`` (contentful paint), ``drawn``, ``used`` (of a processor), ms;
    ``plots``; ``bytes``."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError("no chromium (apt-get install chromium)")
    page = path.read_text(encoding="utf-8")
    found = [opened(page, chromium) for _ in range(times)]
    return {
        "first": statistics.median(each["first-contentful-paint"] for each in found),
        "drawn": statistics.median(each["drawn"] for each in found),
        "used": statistics.median(each["used"] for each in found),
        "plots": found[0]["plots"],
        "bytes": path.stat().st_size,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args(arguments)
    found = measure(options.page, options.times)
    print(f"load: {os.getloadavg()[0]:.1f}, processors: {len(os.sched_getaffinity(0))}")
    print(f"{found['bytes'] / 1e6:.2f} MB, first screen {found['first']:.0f} ms after opening")
    print(f"{found['plots']:.0f} figures in the window drawn after {found['drawn']:.0f} ms")
    print(f"{found['used']:.0f} ms of a processor in the page's thread until then")


if __name__ == "__main__":
    main()
