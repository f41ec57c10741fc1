"""The command line: what it prints, how it refuses, and that it never shows a traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asi_pa import __version__, cli
from asi_pa.commands import designs as designs_verb
from asi_pa.designs import DESIGNS
from asi_pa.experiment.ranking import breaches
from asi_pa.report import page, read_json
from asi_pa.trace import WORKLOADS, bundled_traces, load_trace, write_trace


def run(capsys, *words):
    """Exit status, standard output and standard error of a command in this process."""
    try:
        status = cli.main(words)
    except SystemExit as stop:  # argparse's --help and --version
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *words):
    """The message of a command that must exit 2 with one line."""
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("asi-pa: error: ")
    assert err.count("\n") == 1
    return err


def verb_names():
    parser = cli.command_line()
    (actions,) = (action for action in parser._actions if action.dest == "verb")
    return sorted(actions.choices or ())


def test_version_and_help(capsys):
    assert run(capsys, "--version") == (0, f"asi-pa {__version__}\n", "")
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert all(verb in out for verb in verb_names())


def test_no_verb_shows_the_help(capsys):
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert err.startswith("usage: asi-pa")


@pytest.mark.parametrize("verb", verb_names())
def test_every_verb_teaches_with_examples(capsys, verb):
    status, out, _ = run(capsys, verb, "--help")
    assert status == 0
    assert f"  asi-pa {verb}" in out.partition("examples:")[2]
    assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize("words", [("no-such-verb",), ("designs", "--no-such-option")])
def test_bad_usage_is_one_line(capsys, words):
    assert words[-1] in refused(capsys, *words)


def test_python_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "asi_pa", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"asi-pa {__version__}\n"


def test_designs_lists_all(capsys):
    status, out, _ = run(capsys, "designs")
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} == {design.name for design in DESIGNS.values()}


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_describes_one(capsys, name):
    status, out, _ = run(capsys, "designs", name)
    assert status == 0
    assert out.splitlines()[0] == f"name: {DESIGNS[name].name}"
    assert all(": " in line for line in out.splitlines())


def test_designs_compares_two(capsys):
    assert run(capsys, "designs", "linux", "linux") == (0, "", "")
    status, out, _ = run(capsys, "designs", "linux", "migratetype/as-posted")
    assert status == 0
    assert "-name: linux" in out
    assert "+name: migratetype/as-posted" in out


def test_designs_refuses(capsys):
    assert "'windows'" in refused(capsys, "designs", "windows")
    assert "got 3" in refused(capsys, "designs", "linux", "linux", "linux")


def test_designs_describes_a_variant(capsys, tmp_path):
    status, out, _ = run(capsys, "designs", "migratetype", "migratetype:zeroing=dirty")
    assert status == 0
    assert "+zeroing: dirty" in out
    own = tmp_path / "own.py"
    own.write_text(
        "import dataclasses, asi_pa\nMINE = dataclasses.replace(asi_pa.DESIGNS['linux'], name='mine')\n"
    )
    status, out, _ = run(capsys, "designs", f"{own}:MINE")
    assert (status, out.splitlines()[0]) == (0, "name: mine")
    assert "no_such_field" in refused(capsys, "designs", "linux:no_such_field=1")


@pytest.mark.parametrize(
    "verb", [("compare", "forks:64M", "--memory", "ample"), ("audit", "--depth", "2"), ("starvation",)]
)
def test_an_error_in_a_design_of_one_s_own_is_one_line(capsys, tmp_path, verb):
    own = tmp_path / "own.py"
    own.write_text(
        "from asi_pa.designs import Design\n"
        "class Own(Design):\n"
        "    def unmap_ahead(self, view):\n"
        "        return view.nothing\n"
        "OWN = Own.based_on('migratetype', name='own')\n"
        "BAD = Own.based_on('migratetype', name='bad', boot='Nowhere')\n"
    )
    option = () if verb[0] == "audit" else ("--designs",)
    for name, says in (
        ("OWN", f"{own}, line 4: AttributeError: "),
        ("BAD", f"{own}: design 'bad': boot: no freetype 'Nowhere'"),
        ("NONE", f"{own}: NONE is not a Design"),
    ):
        assert says in refused(capsys, *verb, *option, f"{own}:{name}")
    own.write_text("1 +\n")
    assert f"{own}: SyntaxError" in refused(capsys, *verb, *option, f"{own}:OWN")


def test_starvation(capsys):
    words = (
        "--memory",
        "64M",
        "--designs",
        "linux,pool",
        "--design",
        "migratetype:zeroing=dirty,unmap_low=512",
    )
    status, out, err = run(capsys, "starvation", *words)
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()[1:4]]
    assert names[:2] == ["linux", "pool/nonsensitive"]
    assert names[2].startswith("migratetype")
    assert "'1M'" in refused(capsys, "starvation", "--memory", "1M")
    assert "'windows'" in refused(capsys, "starvation", "--design", "windows")


def test_audit(capsys, tmp_path):
    found, scripts = tmp_path / "audit.json", tmp_path / "scripts"
    words = ("--jobs", "2", "--depth", "3", "--json", str(found), "--scripts", str(scripts))
    status, out, err = run(capsys, "audit", "migratetype/as-posted", *words)
    assert (status, err) == (1, "")
    result = json.loads(found.read_text())
    assert result["schema"] == "asi_pa.audit/1"
    assert result["findings"]
    assert out
    assert len(list(scripts.iterdir())) >= len(result["findings"])


def test_audits_of_several_designs_make_a_table(capsys, tmp_path):
    found, scripts = tmp_path / "audits.json", tmp_path / "scripts"
    limits = ("--depth", "3", "--only", "smallest", "--no-liveness")
    words = ("pool", "unmapped/v2", "migratetype:zeroing=dirty", "--json", str(found))
    status, out, err = run(capsys, "audit", *words, "--scripts", str(scripts), *limits)
    assert status == 1
    assert len(err.splitlines()) == 3
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines())
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert [row["status"] for row in table.values()] == ["0", "1", "0"]
    assert [row[""] for row in table.values()] == ["", "as posted", ""]
    assert table["`unmapped/v2`"]["broken"] == "3"
    made = json.loads(found.read_text())
    assert made["schema"] == "asi_pa.audits/1"
    states = [int(row["states"].replace(",", "")) for row in table.values()]
    assert [each["states"] for each in made["audits"]] == states
    assert {path.name for path in scripts.iterdir()} == {"pool", "unmapped-v2", "migratetype-zeroing=dirty"}
    assert len(list((scripts / "unmapped-v2").iterdir())) == 3


def test_audit_of_all_designs(capsys):
    status, out, err = run(capsys, "audit", "--all", "--depth", "1", "--only", "smallest", "--quiet")
    assert (status, err) == (1, "")
    names = [line.split("`")[1] for line in out.splitlines()[2:]]
    assert names == [name for name, d in DESIGNS.items() if name == d.name and d.protects]


def test_audit_refuses(capsys, tmp_path):
    assert "no design" in refused(capsys, "audit")
    assert "'linux' protects nothing" in refused(capsys, "audit", "pool", "linux")
    assert "'nowhere'" in refused(capsys, "audit", "pool", "nowhere", "--depth", "1")
    taken = tmp_path / "file"
    taken.touch()
    assert str(taken) in refused(capsys, "audit", "pool", "--scripts", str(taken))
    assert str(tmp_path) in refused(capsys, "audit", "pool", "--json", str(tmp_path))
    assert "'windows'" in refused(capsys, "audit", "windows")
    assert "linux" in refused(capsys, "audit", "linux")
    assert "'0'" in refused(capsys, "audit", "migratetype", "--depth", "0")


def test_errors_become_one_line(capsys, monkeypatch):
    def fail_with(error):
        def run_it(_args):
            raise error

        monkeypatch.setattr(designs_verb, "_designs", run_it)

    fail_with(KeyboardInterrupt())
    assert run(capsys, "designs") == (130, "", "")
    fail_with(MemoryError())
    assert "not enough memory" in refused(capsys, "designs")
    fail_with(FileNotFoundError(2, "No such file or directory", "x.npz"))
    assert "x.npz: No such file or directory" in refused(capsys, "designs")
    fail_with(ImportError("--html needs plotly"))
    assert "needs plotly" in refused(capsys, "designs")
    fail_with(ValueError("two\n  lines"))
    assert "two lines" in refused(capsys, "designs")


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "asi_pa", "designs"], stdout=pipe, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (0, b"")


SHARED = Path(os.environ.get("ASI_PA_SHARED", Path(__file__).resolve().parents[3] / "shared"))
RUN = Path(__file__).resolve().parents[1] / "data" / "oracle" / "linux-7.2" / "D3z-1.npz"
with np.load(RUN) as _data:
    OPS, DUMPS = len(_data["ops"]), len(_data["dump_at"])


def test_verify_one_file(capsys):
    status, out, err = run(capsys, "verify", str(RUN))
    assert (status, err) == (0, "")
    assert out == f"{RUN}: operations {OPS} of {OPS} exact, dumps {DUMPS} of {DUMPS} exact\n"


def test_verify_finds_a_wrong_number_and_goes_on_after_a_bad_file(capsys, tmp_path):
    with np.load(RUN) as data:
        arrays = dict(data)
    row = int(np.flatnonzero(arrays["ops"][:, 0] == 1)[100])
    arrays["res"][row, 0] += 1
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, **arrays)
    assert run(capsys, "verify", str(wrong))[0] == 1

    text = tmp_path / "text.npz"
    text.write_text("not a recording")
    missing = tmp_path / "missing.npz"
    verdicts = tmp_path / "verdicts.json"
    files = [str(path) for path in (text, wrong, missing, RUN)]
    status, out, err = run(capsys, "verify", "--json", str(verdicts), *files)
    assert status == 2
    lines = out.splitlines()
    assert lines[0].startswith(f"{wrong}: operations {OPS - 1} of {OPS} exact, ")
    assert f"; operation {row} " in lines[0]
    assert lines[1].startswith(f"{RUN}: operations {OPS} of {OPS} exact")
    assert lines[2] == f"1 of 4 files exact ({2 * OPS} operations, {2 * DUMPS} dumps)"
    assert [line.partition(".npz: ")[0] for line in err.splitlines()] == [
        f"asi-pa: error: {path.with_suffix('')}" for path in (text, missing)
    ]
    assert [record["exact"] for record in json.loads(verdicts.read_text())] == [False, True]


def test_any_number_of_processes_verifies_the_same(capsys, tmp_path):
    files = [str(path) for path in sorted(RUN.parent.glob("*.npz"))[:3]]
    found = []
    for jobs in ("1", "2", "3"):
        verdicts = tmp_path / f"{jobs}.json"
        status, out, err = run(capsys, "verify", "--jobs", jobs, "--json", str(verdicts), *files)
        assert (status, err) == (0, "")
        records = json.loads(verdicts.read_text())
        assert all(record.pop("seconds") > 0 for record in records)
        found.append((out.replace(str(verdicts), ""), records))
    assert found[0] == found[1] == found[2]


def test_verify_explains(capsys):
    status, out, err = run(capsys, "verify", "--explain", "204", str(RUN))
    assert (status, err) == (0, "")
    assert "204" in out
    assert f"{RUN}: operation {OPS} is not in 0..{OPS - 1}" in refused(
        capsys, "verify", "--explain", str(OPS), str(RUN)
    )
    assert "not of 2" in refused(capsys, "verify", "--explain", "0", str(RUN), str(RUN))


def test_verify_refuses(capsys, tmp_path):
    assert "FILE" in refused(capsys, "verify")
    assert "'0'" in refused(capsys, "verify", "--jobs", "0", "x.npz")
    assert "x.npz: No such file or directory" in refused(capsys, "verify", str(tmp_path / "x.npz"))
    empty = tmp_path / "empty.npz"
    empty.touch()
    assert str(empty) in refused(capsys, "verify", str(empty))
    assert "is a directory" in refused(capsys, "verify", str(RUN), "--json", str(tmp_path))


def test_ctrl_c_ends_verify_and_its_workers_without_a_word():
    words = ["verify", "--jobs", "2", *map(str, sorted(RUN.parent.glob("*.npz")) * 20)]
    with subprocess.Popen(
        [sys.executable, "-m", "asi_pa", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        os.killpg(command.pid, signal.SIGINT)
        _, err = command.communicate()
    assert (command.returncode, err) == (130, b"")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """Nothing is taken from the user's cache folder, nothing left there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_compare(capsys, tmp_path, monkeypatch):
    pytest.importorskip("plotly")
    html, numbers = tmp_path / "out.html", tmp_path / "out.json"
    words = ("redis", "--quick", "--designs", "linux,migratetype", "--costs", "default", "--samples", "20")
    status, out, err = run(capsys, "compare", *words, "--html", str(html), "--json", str(numbers))
    assert (status, err) == (0, "")
    assert out.startswith("migratetype or linux?")
    assert "one seed: no words" in out
    assert out.endswith(f"json: {numbers}\nhtml: {html}\n")
    assert html.read_text().startswith("<!doctype html>")
    result = read_json(numbers)
    assert result["command"][:4] == ["asi-pa", "compare", "redis", "--quick"]
    assert [run["memory"] for run in result["runs"]] == ["ample", "short"]
    for replayed in result["runs"]:
        assert [design["design"] for design in replayed["designs"]] == ["linux", "migratetype/sound"]
        assert not any(breaches(design) for design in replayed["designs"])
    assert result["verdict"] == []
    assert result["protagonists"] == ["migratetype/sound", "linux"]

    def loaded(*_):
        raise AssertionError("a trace was read once more")

    monkeypatch.setattr("asi_pa.experiment.comparison.load_events", loaded)
    again = tmp_path / "again.json"
    more = ("--html", str(html), "--json", str(again))
    assert run(capsys, "compare", *words, *more)[1] == out.replace("out.json", "again.json")
    assert read_json(again) == result | {"command": ["asi-pa", "compare", *words, *more]}


def test_compare_says_words_and_keeps_what_it_computed(capsys, monkeypatch):
    words = ("compare", "fragment:128M", "--designs", "migratetype,pool", "--seeds", "3")
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) <= 45
    assert lines[0].startswith("migratetype or pool?")
    assert any("a made-up workload" in line for line in lines[:8])
    assert "The RFC's claims:" in out

    def computed(*_, **__):
        raise AssertionError("computed once more")

    monkeypatch.setattr("asi_pa.experiment.rows.build", computed)
    monkeypatch.setattr("asi_pa.experiment.full.replayed", computed)
    assert run(capsys, *words)[1] == out
    status, mail, _ = run(capsys, *words, "--mail")
    assert status == 0
    assert mail.isascii()
    assert max(map(len, mail.splitlines())) <= 72
    quiet = run(capsys, *words, "--quiet")[1]
    assert quiet.splitlines()[-1].startswith("The RFC's claims:")
    full = run(capsys, *words, "--full")[1]
    assert full.startswith(out)
    assert "exposure" in full.lower() or "leaked" in full.lower()


def test_compare_goes_on_where_it_was_stopped(capsys, monkeypatch):
    from asi_pa.experiment.rows import design_row

    words = ("compare", "fragment:128M", "--designs", "migratetype,pool", "--seeds", "3")
    made: list[tuple[int, str]] = []  # rows that were computed to their end: one under way is given up

    def counted(starts, design, *rest, **more):
        row = design_row(starts, design, *rest, **more)
        made.append((starts.seed, design.name))
        return row

    def stopped(*given, **more):
        if len(made) >= 3:
            raise KeyboardInterrupt
        return counted(*given, **more)

    monkeypatch.setattr("asi_pa.experiment.study.design_row", stopped)
    assert run(capsys, *words)[0] == 130
    assert 3 <= len(made) < 6  # those that other threads were about were done, or given up
    monkeypatch.setattr("asi_pa.experiment.study.design_row", counted)
    assert run(capsys, *words)[0] == 0
    assert len(made) == len(set(made)) == 6


def test_compare_at_sizes(capsys, tmp_path):
    found = tmp_path / "sizes.json"
    words = ("fragment:128M", "--memory", "120M,ample", "--designs", "migratetype,pool", "--seeds", "2")
    status, out, _ = run(capsys, "compare", *words, "--json", str(found), "--no-cache")
    assert status == 0
    assert "memory 120M" in out
    result = read_json(found)
    assert [run["memory"] for run in result["runs"]] == ["120M", "ample"]
    assert {row["place"] for row in result["answer"][0]["measures"]} == {"120M", "ample"}


def test_compare_of_what_has_no_request_tests_nothing(capsys, tmp_path):
    text = tmp_path / "only-free.txt"
    text.write_text(
        "".join(
            f" cc1-77 [000] 1.{i:06}: kmem:mm_page_free: page=0x{i:x} pfn=0x{4096 + i:x} order=0\n"
            for i in range(200)
        )
    )
    found = tmp_path / "free.json"
    status, out, _ = run(
        capsys, "compare", str(text), "--seeds", "2", "--designs", "migratetype,pool", "--json", str(found)
    )
    assert status == 0
    assert "1 untested, 2 untested, 3 untested, 4 untested" in out
    result = read_json(found)
    words = {row["against_other"]["word"] for trace in result["answer"] for row in trace["measures"]}
    assert words == {"untested"}
    assert any("it has no request" in line for line in result["caveats"])


def test_compare_reports_a_broken_replay(capsys, monkeypatch):
    from asi_pa.experiment.runs import replayed as whole

    def broken(*a, **k):
        entry, run = whole(*a, **k)
        return entry | {"verify": "zone 0: broken"}, run

    monkeypatch.setattr("asi_pa.experiment.full.replayed", broken)
    words = ("fresh:64M", "--memory", "ample", "--design", "linux", "--quiet", "--no-cache", "--seeds", "1")
    status, _, err = run(capsys, "compare", *words)
    assert status == 1
    assert err == "asi-pa: error: fresh, ample, linux: zone 0: broken\n"


def test_compare_refuses(capsys, tmp_path, monkeypatch):
    assert "'windows'" in refused(capsys, "compare", "redis", "--design", "windows")
    assert "no-such-trace" in refused(capsys, "compare", "no-such-trace")
    assert "'lots'" in refused(capsys, "compare", "redis", "--memory", "lots")
    assert "'2.6'" in refused(capsys, "compare", "redis", "--kernel", "2.6")
    assert "'-1'" in refused(capsys, "compare", "redis", "--seed=-1")
    assert "no/such" in refused(capsys, "compare", "redis", "--json", str(tmp_path / "no" / "such" / "file"))
    assert "is a directory" in refused(capsys, "compare", "redis", "--html", str(tmp_path))
    assert "no file is named" in refused(capsys, "compare", "redis", "--json", "")
    assert "'' names nothing" in refused(capsys, "compare", "redis", "--designs", "")
    assert "',' names nothing" in refused(capsys, "compare", "redis", "--memory", ",")
    assert "';': no rule" in refused(capsys, "compare", "redis", "--classifier", ";")
    assert "costs.toml" in refused(capsys, "compare", "redis", "--costs", str(tmp_path / "costs.toml"))
    assert "--no-relief" in refused(capsys, "compare", "redis", "--no-relief", "--reclaim", "1M")
    assert "--quick" in refused(capsys, "compare", "redis", "--quick", "--memory", "1G")
    assert "tight is gone" in refused(capsys, "compare", "redis", "--memory", "tight")
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    assert "needs plotly" in refused(capsys, "compare", "redis", "--html", str(tmp_path / "x.html"))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_no_file(capsys, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    words = ("fresh:64M", "--quick", "--design", "linux", "--json", str(tmp_path / "out.json"))
    assert run(capsys, "compare", *words)[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_info(capsys, tmp_path):
    status, out, err = run(capsys, "info", "redis", "net")
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("trace ")] == ["redis:", "net:"]

    about = tmp_path / "about.json"
    assert run(capsys, "info", "redis", "--classifier", "nonsensitive", "--json", str(about)) == (0, "", "")
    (redis,) = json.loads(about.read_text())
    assert redis["name"] == "redis"
    assert redis["nonsensitive"]["pages"] == 1.0


def test_info_lists_what_needs_no_file(capsys):
    status, out, err = run(capsys, "info")
    assert (status, err) == (0, "")
    known = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert known == dict.fromkeys(bundled_traces(), "bundled:") | dict.fromkeys(WORKLOADS, "workload:")


def test_info_refuses(capsys, tmp_path):
    assert "'nonsense'" in refused(capsys, "info", "redis", "--classifier", "nonsense")
    assert "no-such-trace" in refused(capsys, "info", "no-such-trace")
    assert "none is named" in refused(capsys, "info", "--json", str(tmp_path / "about.json"))
    assert "no such directory" in refused(capsys, "info", "redis", "--json", str(tmp_path / "no" / "file"))
    text = tmp_path / "prose.txt"
    text.write_text("It was a dark and stormy night.\n")
    assert str(text) in refused(capsys, "info", str(text))


def test_record_refuses_before_it_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "perf" in refused(capsys, "record", str(tmp_path / "x.trace"), "--seconds", "1")
    assert "'-1'" in refused(capsys, "record", str(tmp_path / "x.trace"), "--seconds=-1")
    assert "'soon'" in refused(capsys, "record", str(tmp_path / "x.trace"), "--seconds", "soon")
    assert "missing" in refused(capsys, "record", str(tmp_path / "missing" / "x.trace"))
    assert "not a regular file" in refused(capsys, "record", os.devnull)
    assert list(tmp_path.iterdir()) == []


RECORDED = SHARED / "traces" / "net.npz"


@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded traces here")
def test_convert(capsys, tmp_path):
    trace = tmp_path / "net.trace"
    status, out, err = run(capsys, "convert", str(RECORDED), str(trace))
    assert (status, err) == (0, "")
    whole = load_trace(trace)
    assert out == f"{trace}: {len(whole)} events, {trace.stat().st_size} bytes\n"
    assert (whole.pfn == load_trace(RECORDED).pfn).all()

    cut, packed = tmp_path / "cut.trace", tmp_path / "packed.trace"
    write_trace(whole.with_events(np.arange(len(whole)) < 20000, kpageflags={}), cut)
    assert run(capsys, "convert", "--pack", str(cut), str(packed))[0] == 0
    assert packed.stat().st_size < cut.stat().st_size / 4
    assert (load_trace(packed).pfn == whole.pfn[:20000]).all()


def test_convert_refuses_and_leaves_nothing(capsys, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    out = tmp_path / "out.trace"
    assert str(empty) in refused(capsys, "convert", str(empty), str(out))
    assert "no-such-file" in refused(capsys, "convert", "no-such-file", str(out))
    assert "not a regular file" in refused(capsys, "convert", "redis", os.devnull)
    assert list(tmp_path.iterdir()) == [empty]


def test_compare_relieves_a_shortage(capsys, tmp_path):
    found = tmp_path / "relief.json"
    words = ("redis", "--memory", "860M", "--designs", "linux,migratetype", "--samples", "2", "--seeds", "1")
    for option, relief, line in (
        ((), (None, True), "recorded file pages can be reclaimed, compaction"),
        (("--reclaim", "64M"), (64 << 20, True), "64 MiB of page cache can be reclaimed, compaction"),
        (("--no-relief",), (0, False), "no relief"),
    ):
        status, out, _ = run(capsys, "compare", *words, *option, "--json", str(found))
        assert status == 0
        assert line in out
        made = read_json(found)
        assert (made["relief"]["reclaim_bytes"], made["relief"]["compaction"]) == relief
        reclaimed = [design["metrics"]["pages_reclaimed"] for design in made["runs"][0]["designs"]]
        assert all(reclaimed) == (relief[0] != 0)
        assert all(pages <= (relief[0] or 1 << 40) >> 12 for pages in reclaimed)


@pytest.mark.parametrize("size", ["0", "much", "-1", "1K", "1000T", ""])
def test_compare_refuses_a_supply_that_is_no_size(capsys, size):
    assert f"'{size}'" in refused(capsys, "compare", "redis", f"--reclaim={size}")


def test_compare_shows_how_the_answer_depends_on_the_classifier(capsys):
    words = (
        "compare",
        "net",
        "--memory",
        "700M",
        "--designs",
        "linux,migratetype",
        "--quiet",
        "--no-fallbacks",
    )
    status, out, _ = run(capsys, *words, "--classifiers", "rfc", "rfc,skb=sensitive")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line for line in lines if line[:2] == ["net,", "700M:"]] == [
        ["net,", "700M:", "linux"],
        ["net,", "700M:", "migratetype/sound"],
    ]
    rows = [line for line in lines if line and line[0].startswith("rfc")]
    assert [row[0] for row in rows] == ["rfc", "rfc,skb=sensitive"] * 2
    declined = [int(row[3].replace(",", "")) for row in rows]
    assert declined[0] == declined[1], "plain Linux does not care"
    shares = [float(row[1].rstrip("%")) for row in rows]
    assert shares[0] == shares[2] > 90 > 20 > shares[1] == shares[3], "one caller is most of net"


@pytest.mark.parametrize(
    "more", [("--json", "x.json"), ("--costs", "default"), ("--classifier", "sensitive")]
)
def test_compare_by_classifier_refuses_other_forms(capsys, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    words = ("compare", "net", *more, "--classifiers", "rfc")
    assert f"not together with {more[0]}" in refused(capsys, *words)


def test_compare_by_classifier_names_a_bad_rule_before_any_work(capsys):
    assert "rfc,nobody=sensitive" in refused(
        capsys, "compare", "net", "--classifiers", "rfc", "rfc,nobody=sensitive"
    )
