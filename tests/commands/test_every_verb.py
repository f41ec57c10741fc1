"""What holds for each verb of the command line, those to come included: a table that lacks one fails.

Standard output that is closed, full or read by nobody; outputs that are an input, twice the same file, in no
folder, a folder, or a full device. (Ctrl-C: tests/test_faults.py.)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import IO

import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa import cli
from asi_pa.commands.options import OutputPath
from tests.report.compare_result import make_result

Capture = pytest.CaptureFixture[str]
RUN = next((Path(__file__).parents[1] / "data" / "oracle").glob("linux-7.2/D3*.npz"))
VMSTAT = Path(__file__).parents[1] / "data" / "validation" / "press.vmstat.json"

COMPARE = "compare T --designs linux --memory 24M --seeds 1 --no-cache --quiet"
#: A cheap command of each verb that prints something; T is a trace, R a result, S a sweep's file.
PRINTS = {
    "compare": "compare --help",
    "sweep": "sweep --help",
    "plot": "plot",
    "explain": "explain T 10 --memory 64M --quiet",
    "diff": "diff R R",
    "timeline": "timeline T --form buddyinfo --memory 64M --quiet",
    "audit": "audit --help",
    "starvation": "starvation --memory 64M --designs linux --quiet",
    "pressure": "pressure --help",
    "field": "field guest --memory 128M --size 16M --designs linux",
    "verify": "verify --jobs 1 RUN",
    "oracle": "oracle --help",
    "validate": "validate --help",
    "info": "info T",
    "convert": "convert T O.trace",
    "record": "record --help",
    "snapshot": "snapshot --help",
    "designs": "designs",
}

#: A command of each way to write a file, O its name; none for those that need another machine or minutes.
WRITES = {
    "compare --json": COMPARE + " --json O",
    "compare --html": COMPARE + " --html O",
    "sweep --json": "sweep S --folder F --executor here --quiet --json O",
    "plot -o": "plot price R -o O.svg",
    "explain --json": PRINTS["explain"] + " --json O",
    "diff --json": "diff R R --json O",
    "timeline -o": PRINTS["timeline"] + " -o O",
    "audit --json": "audit migratetype/as-posted --depth 2 --quiet --json O",
    "starvation --json": PRINTS["starvation"] + " --json O",
    "field --json": PRINTS["field"] + " --json O",
    "verify --json": "verify --jobs 1 RUN --json O",
    "oracle --json": "",
    "validate --figure": "",
    "validate --json": "",
    "info --json": "info T --json O",
    "convert OUTPUT": "convert T O.trace",
    "record OUTPUT": "",
    "snapshot OUTPUT": "",
}

#: Those that are written to a full device; the others take long, or make what no device is.
TRIED_FULL = {
    "compare --json", "explain --json", "diff --json", "timeline -o", "starvation --json", "field --json",
    "verify --json", "info --json",
}  # fmt: skip

#: Files that are read, by option.
READS = {"--costs", "--vmstat", "FILE", "a", "b"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verbs")
    assert cli.main(["convert", "bursts:32M", str(place / "t.trace")]) == 0
    made = make_result(traces=("redis",), memories=(("ample", 1 << 30),), columns=4, samples=3)
    (place / "r.json").write_text(json.dumps(made))
    (place / "s.toml").write_text('traces = ["bursts:32M"]\ndesigns = ["linux"]\nmemory = ["24M"]\n')
    return place


def words(line: str, place: Path, out: str = "") -> list[str]:
    known = {"T": str(place / "t.trace"), "R": str(place / "r.json"), "S": str(place / "s.toml")}
    known |= {"RUN": str(RUN), "F": str(place / "folder")}
    return [
        out + word[1:] if out and word[:2] in ("O", "O.") else known.get(word, word) for word in line.split()
    ]


def parsers() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (
        action for action in cli.command_line()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(verbs.choices)


def outputs(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a verb, and of what is below it, that name a file to write."""
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= outputs(below)
        elif action.type is not None and callable(action.type):
            for word in ("x.json", "x.svg", "x.trace"):
                try:
                    made = action.type(word)
                except (ValueError, TypeError, argparse.ArgumentTypeError):
                    continue
                if isinstance(made, OutputPath):
                    found.add(action.option_strings[0] if action.option_strings else str(action.metavar))
    return found


def test_the_tables_have_every_verb_and_every_output() -> None:
    known = parsers()
    assert set(PRINTS) == set(known)
    there = {f"{verb} {option}" for verb, parser in known.items() for option in outputs(parser)}
    assert set(WRITES) == there, set(WRITES) ^ there


def test_every_option_that_names_a_file_to_write_is_known_as_one() -> None:
    """Otherwise `refuse_overwriting` would not see it."""
    for verb, parser in parsers().items():
        for action in parser._actions:
            name = action.option_strings[0] if action.option_strings else action.dest
            if action.metavar in ("FILE", "OUTPUT") and name not in READS:
                assert name in outputs(parser) | {"files", "result"} or name == str(action.dest), (verb, name)


def run_on(stream: IO[str] | None, monkeypatch: pytest.MonkeyPatch, line: list[str]) -> int:
    """The status of a command with that standard output."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        try:
            return cli.main(line)
        except SystemExit as ended:
            return int(ended.code or 0)


@pytest.mark.parametrize("verb", PRINTS)
def test_standard_output(
    place: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Closed, full: one line and status 2. Without a reader: what the work is worth."""
    line = words(PRINTS[verb], place, str(tmp_path / "o"))
    try:
        plain = cli.main(line)
    except SystemExit as ended:
        plain = int(ended.code or 0)
    assert plain in (0, 1)
    assert capsys.readouterr().out
    assert run_on(None, monkeypatch, line) == 2
    assert capsys.readouterr().err == "asi-pa: error: standard output is closed\n"
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert run_on(full, monkeypatch, line) == 2
    assert capsys.readouterr().err == "asi-pa: error: standard output: No space left on device\n"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as broken:
        assert run_on(broken, monkeypatch, line) == plain
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [name for name, line in WRITES.items() if line])
def test_outputs(place: Path, tmp_path: Path, capsys: Capture, name: str) -> None:
    """In no folder, a folder, a full device, what is also read: one line that names it, nothing is lost."""
    line = WRITES[name]
    suffix = next(word[1:] for word in line.split() if word[:2] in ("O", "O."))
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"full{suffix}").symlink_to("/dev/full")
    where = {"missing/o": "no such directory", "folder": "folder"}
    where |= {"full": "No space left on device"} if name in TRIED_FULL else {}
    for out, says in where.items():
        assert cli.main(words(line, place, str(tmp_path / out))) == 2, out
        said = capsys.readouterr().err
        assert said.startswith("asi-pa: error: ")
        assert said.count("\n") == 1, said
        assert out.partition("/")[0] in said, said
        assert says in said
        shutil.rmtree(place / "folder", ignore_errors=True)
    read = next((word for word in ("T", "R", "S", "RUN") if word in line.split()), None)
    if read is not None:
        kept = Path(words(read, place)[0])
        mine = tmp_path / f"mine{suffix or kept.suffix}"
        shutil.copy(kept, mine)
        given = [str(mine) if word == str(kept) else word for word in words(line, place)]
        given = [str(mine) if word[:2] in ("O", "O.") else word for word in given]
        assert cli.main(given) == 2
        assert "it would be written over" in capsys.readouterr().err
        assert mine.read_bytes() == kept.read_bytes()


def test_two_outputs_with_one_name(place: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "o")
    for line in (
        [*words(COMPARE, place), "--json", out, "--html", out],
        ["validate", "redis", "--json", out, "--figure", f"{tmp_path}/./o"],
    ):
        assert cli.main(line) == 2
        assert "two results are to go there" in capsys.readouterr().err
        assert not os.path.exists(out)
