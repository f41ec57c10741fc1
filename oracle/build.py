"""Configures and compiles a kernel with the driver; goes on where it was interrupted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from oracle import needs
from oracle.edits import DRIVER
from oracle.source import Say, Source, find_source

__all__ = ["build_kernel"]

FRAGMENT = DRIVER / "kernel.config"
#: What the configuration must have come out as: without these nothing that is recorded means anything.
WANTED = (
    "SMP",
    "NUMA",
    "COMPACTION",
    "CMA",
    "CONTIG_ALLOC",
    "MIGRATION",
    "ZONE_DMA32",
    "TRANSPARENT_HUGEPAGE",
)
UNWANTED = ("SHUFFLE_PAGE_ALLOCATOR", "DEBUG_PAGEALLOC", "PAGE_REPORTING", "DEFERRED_STRUCT_PAGE_INIT")
#: What a build of a configuration like this compiles, for the bar; a few dozen more or less do not matter.
FILES = 1531

Progress = Callable[[str, int, int], None]


def build_kernel(
    kernel: str | os.PathLike[str],
    work: Path,
    *,
    jobs: int = 0,
    say: Say = lambda words: None,
    progress: Progress = lambda what, done, of: None,
) -> Source:
    """A bootable kernel with the driver, made of a tree, a tarball or a package; what is made already stays.

    Raises OSError where programs are missing, ValueError where the kernel does not build, with the first
    error of the compiler; the whole output is in ``build.log`` beside it.
    """
    needs.check(needs.FOR_BUILDING)
    work.mkdir(parents=True, exist_ok=True)
    source = find_source(kernel, work, say)
    say(f"Linux {source.version}" + (" with a design" if source.design else ""))
    _configure(source)
    words = [*_make(source), f"-j{jobs or os.cpu_count() or 1}", "bzImage"]
    log = source.work / "build.log"
    with log.open("w", buffering=1) as out:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        done = 0
        try:
            for line in process.stdout:
                out.write(line)
                if re.match(r"\s+(CC|AS|AR)\s", line):
                    done += 1
                    progress("compiling", min(done, FILES), FILES)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.wait():
            raise ValueError(f"Linux {source.version} does not build: {_first_error(log)} (all of it: {log})")
    return source


def _make(source: Source) -> list[str]:
    return ["make", "-C", str(source.tree), f"O={source.build}"]


def _configure(source: Source) -> None:
    """tinyconfig and the fragment; not again where the fragment is the one that was used."""
    stamp = source.build / "oracle.config"
    fragment = FRAGMENT.read_text()
    if stamp.exists() and stamp.read_text() == fragment:
        return
    source.build.mkdir(exist_ok=True)
    config = source.build / ".config"
    merge = [str(source.tree / "scripts" / "kconfig" / "merge_config.sh"), "-O", str(source.build), "-m"]
    for words in (
        [*_make(source), "tinyconfig"],
        ["sh", *merge, str(config), str(FRAGMENT)],
        [*_make(source), "olddefconfig"],
    ):
        _run(words, source)
    check_config(config.read_text())
    stamp.write_text(fragment)


def check_config(text: str) -> None:
    """ValueError for a configuration that did not become what the fragment asked for."""
    on = set(re.findall(r"^CONFIG_(\w+)=y$", text, re.MULTILINE))
    lacking = [name for name in WANTED if name not in on]
    if lacking:
        raise ValueError(f"this kernel cannot be configured with CONFIG_{', CONFIG_'.join(lacking)}")
    there = [name for name in UNWANTED if name in on]
    if there:
        raise ValueError(f"this kernel cannot be configured without CONFIG_{', CONFIG_'.join(there)}")


def _run(words: Sequence[str], source: Source) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{words[-1]} of Linux {source.version} failed: {said[-1] if said else 'no output'}")


def _first_error(log: Path) -> str:
    found = re.search(r"^.*(?:\berror: |Error \d).*$", log.read_text(), re.MULTILINE)
    return found[0].strip() if found else "no error in its output"
