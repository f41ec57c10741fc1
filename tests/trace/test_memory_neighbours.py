"""Texts about memory as they reach a reader: prefixed, pasted, repeated, cut off, damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from tests.trace.test_field import Capture, case, one, refused, text, words

OOM = (case("19") / "oom.txt").read_text()
TYPES = (case("20") / "pagetypeinfo.txt").read_text()
ZONES = (Path(__file__).parents[1] / "data" / "procfs" / "zoneinfo").read_text()
COUNTS = "   360    106     38     13      6      3      2      0      2      1    203 "
BUDDY = f"Node 0, zone   Normal {COUNTS}\n"


def each(change: Callable[[str], str], content: str) -> str:
    return "".join(f"{change(line)}\n" for line in content.splitlines())


def bare(line: str) -> str:
    return line.partition("] ")[2] if line.startswith("[") else line


PREFIXED = {
    "no time": bare,
    "a thread": lambda line: line.replace("] ", "][ T1234] ", 1),
    "dmesg -T": lambda line: f"[Sat Nov 28 12:00:00 2026] {bare(line)}",
    "journalctl": lambda line: f"Nov 28 12:00:00 box kernel: {bare(line)}",
    "journalctl -o short-iso": lambda line: f"2026-11-28T12:00:00.123456+01:00 box kernel: {line}",
    "rsyslog": lambda line: f"<6>Nov 28 12:00:00 box kernel: {line}",
    "a mail": lambda line: f"> {line}",
    "windows": lambda line: f"{line}\r",
    "no types, as to 3.8": lambda line: line.replace(" (UMEHC)", "").replace(" (UMEH)", ""),
}


@pytest.mark.parametrize("name", PREFIXED)
def test_oom_reports(tmp_path: Path, name: str) -> None:
    (zone,) = one(tmp_path, text(tmp_path, each(PREFIXED[name], OOM)))["zones"]
    assert (zone["node"], zone["zone"], zone["free_pages"], zone["blocks"]) == (0, "Normal", 9082, 2908)
    assert zone["kb"]["low"] == 28160


def test_an_oom_report_deep_in_a_log(tmp_path: Path) -> None:
    content = "[  1.000000] usb 1-1: new device\n" * 5000 + OOM + OOM
    first, second = one(tmp_path, text(tmp_path, content))["zones"]
    assert (first["free_pages"], second["free_pages"], second["report"]) == (9082, 9082, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (OOM.replace(" 2*256kB", "\n2*256kB"), "line 7: free lists that are damaged or cut off"),
        (OOM[:-30], "line 7: free lists that are damaged or cut off"),
        (OOM.replace("830*8kB", "830*9kB"), "line 7: sizes that do not double"),
        (
            OOM.replace(
                "lowmem_reserve", "x\n[  812.3] Node 1 Normal free:4kB min:1kB low:2kB\nlowmem_reserve"
            ),
            "node 1, zone Normal: no free lists: the report was cut off",
        ),
        (OOM[: OOM.index("Node 0 Normal: ")], "Mem-Info without free lists"),
    ],
)
def test_oom_reports_that_lack_something(tmp_path: Path, capsys: Capture, content: str, says: str) -> None:
    assert says in refused(capsys, "info", text(tmp_path, content))


BUDDIES = {
    "as it is": BUDDY,
    "watch": "Every 2.0s: cat /proc/buddyinfo      box: Sat Nov 28 12:00:00 2026\n\n" + BUDDY,
    "a prompt, indented": "root@box:~# cat /proc/buddyinfo\n    " + BUDDY,
    "a log": "Nov 28 12:00:00 box monitor[5]: " + BUDDY,
    "tabs": BUDDY.replace("  ", "\t"),
    "windows": BUDDY.replace("\n", "\r\n"),
    "no last end": BUDDY[:-1],
}


@pytest.mark.parametrize("name", BUDDIES)
def test_buddyinfo(tmp_path: Path, name: str) -> None:
    (zone,) = one(tmp_path, text(tmp_path, BUDDIES[name]))["zones"]
    assert zone["free"] == [int(word) for word in COUNTS.split()]


def test_nodes_orders_and_repetitions(tmp_path: Path, capsys: Capture) -> None:
    several = one(tmp_path, text(tmp_path, BUDDY + BUDDY.replace("Node 0", "Node 1")))["zones"]
    assert [zone["node"] for zone in several] == [0, 1]
    path = text(tmp_path, BUDDY + BUDDY)
    assert [zone.get("report") for zone in one(tmp_path, path)["zones"]] == [None, 2]
    assert "report 2, node 0, Normal" in words(capsys, path)
    for count in (3, 14):  # MAX_PAGE_ORDER of other kernels
        (zone,) = one(tmp_path, text(tmp_path, "Node 0, zone   Normal" + " 10" * count + "\n"))["zones"]
        assert len(zone["free"]) == count
    assert [zone.get("report") for zone in one(tmp_path, text(tmp_path, ZONES + ZONES))["zones"]] == (
        [None] * 5 + [2] * 5
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BUDDY + "Node 1, zone   Normal     10    1", "line 2: 2 orders, and 11 before"),
        (BUDDY + "Node 0, zone    DMA32   x 1 1 1\n", "line 2: expected whole numbers"),
        ("\n" + BUDDY.replace("360", "9" * 30), "line 2: expected whole numbers"),
        (BUDDY.replace("360", "9" * 18), "more than any machine has"),
        (BUDDY.replace("360", "-36"), "line 1: not understood"),
        (BUDDY.replace("360", "3,6"), "line 1: not understood"),
        (TYPES[: len(TYPES) // 2], "line 8: expected whole numbers"),
        (TYPES[:-20], "expected 5 migratetypes"),
        (TYPES.replace("Node    0", "Node    1"), "name different zones"),
        (TYPES + "\n$ cat /proc/buddyinfo\n", "line 17: not a line of pagetypeinfo"),
        ("cat: /proc/pagetypeinfo: Permission denied\n", "line 1: not understood"),
        (ZONES[: len(ZONES) // 2], "zoneinfo, line "),
        (ZONES.replace("pages free     ", "pages free\n", 1), "expected a whole number"),
        (TYPES.replace("order: 9", "order:"), "line 1: expected a whole number"),
        (ZONES.replace("min      ", "min      -", 1), "expected whole numbers"),
        ("Node 0, zone   Normal -1.000 -1.000 0.994 \n", "debugfs' extfrag/"),
        ("Node 0, zone   Normal 0.000 0.133 0.316 \n", "debugfs' extfrag/"),
        ("MemTotal:       16384 kB\n", "no free lists in it"),
        ("nr_free_pages 12345\n", "no free lists in it"),
    ],
)
def test_texts_of_proc_that_lack_something(tmp_path: Path, capsys: Capture, content: str, says: str) -> None:
    assert says in refused(capsys, "info", text(tmp_path, content))


def test_zoneinfo_of_windows(tmp_path: Path) -> None:
    plain = one(tmp_path, text(tmp_path, ZONES))["zones"]
    assert one(tmp_path, text(tmp_path, ZONES.replace("\n", "\r\n")))["zones"] == plain
