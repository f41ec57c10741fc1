"""docs/use/tour.md is carried out: the files that it writes, the commands that it gives, the notebook."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

ROOT = Path(__file__).resolve().parent.parent
TOUR = (ROOT / "docs" / "use" / "tour.md").read_text()
FILES = dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', TOUR, flags=re.DOTALL))


def command(of: str) -> list[str]:
    """The command of the tour that begins so, run by this interpreter."""
    (line,) = re.findall(rf"^    ({re.escape(of)}.*)$", TOUR, flags=re.MULTILINE)
    first, *rest = shlex.split(line)
    return [sys.executable, "-m", "asi_pa", *rest] if first == "asi-pa" else [sys.executable, *rest]


def run(words: list[str], where: Path) -> str:
    path = os.pathsep.join((str(where), str(ROOT), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        words,
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_researcher_writes_is_at_most_forty_lines():
    written = [line for text in FILES.values() for line in text.splitlines() if line.strip()]
    assert len(FILES) == 4
    assert len(written) <= 40
    assert f"{sum(len(text.splitlines()) for text in FILES.values())} lines in four files" in TOUR


def test_the_tour(tmp_path):
    for name in ("matplotlib", "pandas", "pyarrow", "jinja2"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    sweep = tmp_path / "sweep.toml"
    smaller = re.sub(r"memory = \[.*\]", 'memory = ["860M", "1100M"]', sweep.read_text())
    sweep.write_text(smaller.replace("seeds = 3", "seeds = 1"))

    audit = command("asi-pa audit")
    assert "`mine.py:THREE_QUARTERS`" in run([*audit[:-1], "2"], tmp_path)
    run(command("asi-pa sweep"), tmp_path)
    run(command("asi-pa plot"), tmp_path)
    assert (tmp_path / "failures.pdf").read_bytes().startswith(b"%PDF")
    table = run(command("python table.py")[:2], tmp_path)
    assert table.startswith("\\begin{tabular}")
    assert table.count("three-quarters") == 2
    assert table.index("860M") < table.index("1100M"), "sizes sort as sizes"
    assert not re.search(r"(?<!\\)_", table), "LaTeX reads it"
    bench = run([*command("python -m pytest test_mine.py"), "-p", "no:cacheprovider"], tmp_path)
    assert "3 passed" in bench


def test_the_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(ROOT / "examples" / "afternoon.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without its outputs"
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)})
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    kinds = {kind for out in shown for kind in out.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not [out for out in shown if out.output_type == "error"]
