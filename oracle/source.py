"""A kernel's sources in the work folder: from a tree, from a linux-source tarball, or from its package.

The tree that is given is never touched.  ``Source.read`` gives a file as the kernel has it; the files that
the driver changes are kept twice, as they came (``pristine/``) and as they are compiled (``tree/``).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asi_pa.files import write_atomic
from oracle import needs
from oracle.edits import DESIGN_HEADER, EDITED, apply_edits

__all__ = ["Source", "find_source", "kernel_version"]

#: What a build leaves in a tree, and what is no part of one.
LEFT = re.compile(
    r"(^|/)(\.git|\.config|\.config\.old|vmlinux|modules\.\w+|Module\.symvers|System\.map)$"
    r"|\.(o|a|ko|so|cmd|d|mod|order|tmp|lst)$|^include/(config|generated)$|^arch/\w+/include/generated$"
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A kernel's sources, ready to be configured."""

    given: Path
    """What the user named."""
    work: Path
    """The folder of this kernel in the work folder."""
    version: str
    """As the kernel says it: ``7.2.13``, ``7.3.0-rc7``."""
    design: bool
    """Does it bring ``mm/oracle_design.h``?"""

    @property
    def defrag_mode(self) -> bool:
        """Does this kernel have vm.defrag_mode?"""
        return "ORACLE_DEFRAG_MODE" in (self.tree / "mm" / "oracle_features.h").read_text()

    @property
    def tree(self) -> Path:
        """The tree with the driver in it."""
        return self.work / "tree"

    @property
    def build(self) -> Path:
        """Where it is compiled (``O=``)."""
        return self.work / "build"

    @property
    def image(self) -> Path:
        """What QEMU starts."""
        return self.build / "arch" / "x86" / "boot" / "bzImage"


def kernel_version(makefile: str) -> str:
    """The version that the head of a kernel's Makefile gives; ValueError where it is none."""
    parts = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*) *$", makefile, re.MULTILINE)
    )
    try:
        numbers = ".".join(str(int(parts[name])) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
        extra: str = parts.get("EXTRAVERSION", "")
    except (KeyError, ValueError):
        raise ValueError("Makefile: no kernel version at its head") from None
    return numbers + extra


def find_source(kernel: str | os.PathLike[str], work: Path, say: Say = lambda words: None) -> Source:
    """The sources of ``kernel`` in the work folder, with the driver in them; what is there already stays.

    kernel : a tree, a tarball (linux-source-7.2.tar.xz, linux-7.2.tar.gz), or Debian's linux-source package.

    Raises ValueError for what is none of these and for a kernel that the driver does not fit, OSError where
    something cannot be read or a program is missing.
    """
    given = Path(kernel).resolve()
    if not given.exists():
        raise FileNotFoundError(f"{kernel}: no such kernel tree, tarball or package")
    # make(1) reads O= from the tree it is called in: a relative folder would be another one there
    place = work.resolve() / _key(given)
    place.mkdir(parents=True, exist_ok=True)
    if given.is_dir():
        if not (given / "Makefile").exists() or not (given / "mm" / "page_alloc.c").exists():
            raise ValueError(f"{kernel}: not a kernel tree: no mm/page_alloc.c")
        say(f"copying {given}")
        _copy_tree(given, place)
    elif not (place / "tree").exists():
        say(f"unpacking {given}")
        _unpack(given, place)
    return _with_driver(given, place)


def _key(given: Path) -> str:
    """A folder's name for a source: readable, and another where the file is another."""
    stat = given.stat()
    # a tree changes all the time, and its copy follows it
    identity = [str(given)] if given.is_dir() else [str(given), str(stat.st_size), str(stat.st_mtime_ns)]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:8]
    name = re.sub(r"(_all)?\.(deb|tar\.\w+)$", "", given.name)
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}-{digest}"


def _files(tree: Path) -> Iterator[Path]:
    """The files of a tree that a build needs, relative to it."""
    for folder, folders, files in os.walk(tree):
        base = Path(folder).relative_to(tree)
        folders[:] = [name for name in folders if not LEFT.search(str(base / name))]
        yield from (base / name for name in files if not LEFT.search(str(base / name)))


def _copy_tree(given: Path, place: Path) -> None:
    """Brings the copy up to date: what is newer or missing is copied, what is gone goes."""
    tree, pristine = place / "tree", place / "pristine"
    wanted = set()
    for path in _files(given):
        wanted.add(path)
        copy = (pristine if str(path) in EDITED else tree) / path
        old, new = given / path, copy
        stat = old.lstat()
        if new.is_symlink() or new.exists():
            now = new.lstat()
            if now.st_mtime_ns == stat.st_mtime_ns and now.st_size == stat.st_size:
                continue
            new.unlink()
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(old, new, follow_symlinks=False)
    ours = {Path(name) for name in EDITED}
    for path in list(_files(tree)):
        if path not in wanted and path not in ours and not re.fullmatch(r"mm/oracle\w*\.[ch]", str(path)):
            (tree / path).unlink()


def _unpack(given: Path, place: Path) -> None:
    """Unpacks beside, and gives the tree its name when it is whole."""
    kind = next((end for end in needs.FOR_UNPACKING if given.name.endswith(end)), None)
    if kind is None:
        raise ValueError(f"{given}: not a kernel tree, a .tar.xz, a .tar.gz or a linux-source .deb")
    needs.check(needs.FOR_UNPACKING[kind])
    part = place / "tree.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    flag = "-xz" if kind == ".gz" else "-xJ"
    words = ["tar", flag, "--strip-components=1", "-C", str(part)]
    if kind == ".deb":
        inner = _tarball_in(given)
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(given)], stdout=subprocess.PIPE)
        tarball = subprocess.Popen(["tar", "-xO", inner], stdin=unpacked.stdout, stdout=subprocess.PIPE)
        done = subprocess.run(words, stdin=tarball.stdout, capture_output=True, text=True, check=False)
        for process in (unpacked, tarball):
            process.stdout.close()  # type: ignore[union-attr]
            process.wait()
    else:
        done = subprocess.run([*words, "-f", str(given)], capture_output=True, text=True, check=False)
    if done.returncode or not (part / "mm" / "page_alloc.c").exists():
        said = done.stderr.strip().splitlines()
        raise ValueError(f"{given}: no kernel tree in it" + (f": {said[-1]}" if said else ""))
    for name in EDITED:
        (place / "pristine" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(part / name, place / "pristine" / name)
    part.rename(place / "tree")


def _tarball_in(package: Path) -> str:
    """The name of the tarball in a linux-source package."""
    unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    listed = subprocess.run(["tar", "-t"], stdin=unpacked.stdout, capture_output=True, text=True, check=False)
    unpacked.stdout.close()  # type: ignore[union-attr]
    unpacked.wait()
    found = re.findall(r"^\S*/linux-source-\S+\.tar\.xz$", listed.stdout, re.MULTILINE)
    if not found:
        raise ValueError(f"{package}: no linux-source tarball in it")
    return str(found[0])


def _with_driver(given: Path, place: Path) -> Source:
    """The driver's files and edits in the tree; a file that is right already is not touched."""
    tree = place / "tree"
    design = (tree / DESIGN_HEADER).exists()

    def read(name: str) -> str:
        return ((place / "pristine" if name in EDITED else tree) / name).read_text(errors="surrogateescape")

    for name, text in apply_edits(read, design=design).items():
        path = tree / name
        if not path.exists() or path.read_text(errors="surrogateescape") != text:
            write_atomic(path, text)
    version = kernel_version((tree / "Makefile").read_text())
    return Source(given=given, work=place, version=version, design=design)
