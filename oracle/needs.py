"""What recording takes besides Python: looked for beforehand, missing things named with their packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["FOR_BUILDING", "FOR_RECORDING", "check", "missing"]

#: (what, the package of Debian and its relatives); libelf is a header, everything else a program.
FOR_BUILDING = (
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("libelf.h", "libelf-dev"),
)
FOR_RECORDING = (("qemu-system-x86_64", "qemu-system-x86"),)
#: By how a source's name ends.
FOR_UNPACKING = {
    ".deb": (("dpkg-deb", "dpkg"), ("tar", "tar"), ("xz", "xz-utils")),
    ".xz": (("tar", "tar"), ("xz", "xz-utils")),
    ".gz": (("tar", "tar"), ("gzip", "gzip")),
}
INCLUDES = (Path("/usr/include"), Path("/usr/local/include"))


def _there(what: str) -> bool:
    if what.endswith(".h"):
        return any((place / what).exists() for place in INCLUDES)
    return shutil.which(what) is not None


def missing(needs: Iterable[tuple[str, str]], there: Callable[[str], bool] = _there) -> list[tuple[str, str]]:
    """Those of ``needs`` that this machine has not."""
    return [need for need in needs if not there(need[0])]


def check(needs: Iterable[tuple[str, str]], there: Callable[[str], bool] = _there) -> None:
    """FileNotFoundError, in one line, where something is missing."""
    lacking = missing(needs, there)
    if lacking:
        what = ", ".join(name for name, _ in lacking)
        packages = " ".join(package for _, package in lacking)
        raise FileNotFoundError(f"not on this machine: {what} (packages of Debian and Ubuntu: {packages})")
