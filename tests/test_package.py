"""The package as a whole: what it exports, what importing it costs, what it ships."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import asi_pa
from asi_pa import cli

ROOT = Path(__file__).resolve().parent.parent
#: Folders of the project whose texts people write.
TEXTS = ("asi_pa", "benchmarks", "contrib", "docs", "examples", "oracle", "tests")
SOURCES = sorted((ROOT / "asi_pa").rglob("*.pyx"))


def test_every_public_name_is_there():
    assert set(asi_pa._HOME) | {"__version__"} == set(asi_pa.__all__)
    for name in asi_pa.__all__:
        assert getattr(asi_pa, name) is not None
    assert set(asi_pa.__all__) <= set(dir(asi_pa))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = asi_pa.no_such_name


def test_no_text_holds_what_a_merge_left():
    rooms = [path for path in ROOT.iterdir() if path.name in TEXTS or path.suffix == ".md"]
    for path in (path for room in rooms for path in ([room] if room.is_file() else room.rglob("*.*"))):
        if path.suffix in {".md", ".py", ".pyx", ".pxd", ".pyi", ".toml", ".yml"}:
            marks = re.findall(r"^(?:<{7}|>{7}) .*$", path.read_text(), flags=re.MULTILINE)
            assert not marks, f"{path.relative_to(ROOT)}: {marks}"


def test_the_version_stands_in_one_place_and_its_copies_follow():
    assert f"\nversion: {asi_pa.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == asi_pa.__version__  # type: ignore[index]
    assert f"asi_pa {asi_pa.__version__}\n" in (ROOT / "README.md").read_text()


def test_the_documents_build_as_a_site(tmp_path):
    """Strict: a link or an anchor that leads nowhere, and a page that nothing leads to, fail."""
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Documents" in (tmp_path / "site" / "index.html").read_text()


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "asi_pa" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"asi_pa.{module}" for name, module in asi_pa._HOME.items()}


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, asi_pa; print(*sorted(set(sys.modules) & {'numpy', 'argparse', 'plotly', 'json'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiled_modules_have_stubs_and_load(source):
    assert source.with_suffix(".pyi").exists()
    module = import_module(".".join(source.relative_to(ROOT).with_suffix("").parts))
    assert module.__doc__


@pytest.mark.parametrize("path", sorted((ROOT / "asi_pa").rglob("*.py")), ids=lambda path: path.stem)
def test_all_lists_name_what_is_there(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if path.name == "__main__.py":
        pytest.skip("runs the command")
    module = import_module(name)
    assert module.__doc__, f"{name} says nothing about itself"
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


def test_makefile_and_metadata_ask_for_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    asked = project["build-system"]["requires"] + project["project"]["dependencies"]
    make = (ROOT / "Makefile").read_text()
    listed = set(re.findall(r"[\w-]+(?:\[\w+\])?>=[\d.]+|types-\w+", make))
    assert listed == {*asked, *extras["report"], *extras["test"], *extras["bench"]}
    assert set(extras["sweep"]) <= set(extras["test"])


README = (ROOT / "README.md").read_text()


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_readme_commands_are_understood():
    parser = cli.command_line()
    lines = [line.strip() for line in README.splitlines() if line.startswith("    asi-pa ")]
    assert len(lines) > 5
    for line in lines:
        # What follows two spaces is the comment.
        parser.parse_args(line.partition("  ")[0].split()[1:])


def test_readme_python_runs(capsys):
    replays, calls = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(replays, "README.md", "exec"), {})
    failures, failures_with_asi, flips = map(int, capsys.readouterr().out.split())
    assert min(failures, failures_with_asi, flips) >= 0
    exec(compile(calls, "README.md", "exec"), {})
    mapped, buddyinfo = capsys.readouterr().out.split("\n", 1)
    assert mapped == "True"
    assert buddyinfo.startswith("Node 0, zone")


def test_readme_begins_with_the_two_commands():
    commands = re.findall(r"^    (make \w+)$", README, re.MULTILINE)
    assert commands[:2] == ["make compare", "make test"]


def test_modules_that_moved_are_found():
    """Under the names that scripts import, as CHANGELOG.md has them; nothing of it shows in dir()."""
    rows = re.findall(
        r"^  \| `asi_pa\.(\w+)` \| `asi_pa\.([\w.]+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert asi_pa._MOVED.items() <= dict(rows).items()
    for name, where in asi_pa._MOVED.items():
        sys.modules.pop(f"asi_pa.{name}", None)
        with pytest.warns(DeprecationWarning, match=rf"asi_pa\.{name} is asi_pa\.{where} now"):
            assert import_module(f"asi_pa.{name}") is import_module(f"asi_pa.{where}")
        assert name not in dir(asi_pa)
        vars(asi_pa).pop(name)
        with pytest.warns(DeprecationWarning, match=name):
            assert getattr(asi_pa, name) is import_module(f"asi_pa.{where}")
    with pytest.raises(ModuleNotFoundError):
        import_module("asi_pa.no_such_module")
