"""Extension modules only; everything else about the package is in pyproject.toml.

Every ``asi_pa/ROOM/NAME.pyx`` becomes the module ``asi_pa.ROOM.NAME``.  Environment switches:

ASI_PA_DEBUG=1     bounds checks on, -O1 -g, assertions kept; its C files are apart, in build/debug
ASI_PA_ANNOTATE=1  write Cython's annotated HTML beside each source
ASI_PA_ONLY=a,b    build only these modules, named as engine/pcp; "none" builds none
"""

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DEBUG = os.environ.get("ASI_PA_DEBUG", "0") not in ("", "0")
ANNOTATE = os.environ.get("ASI_PA_ANNOTATE", "0") not in ("", "0")
ONLY = {name for name in os.environ.get("ASI_PA_ONLY", "").split(",") if name}
#: Where a debug build's C files go, so that neither kind of build takes the other's for its own.
APART = "build/debug" if DEBUG else None
#: What kind the modules in place are; no file says "plain".
STAMP = ROOT / "build" / "kind"
#: What all the modules share of Cython's own code, generated at build time.
SHARED = "asi_pa._cyutility"
JOBS = min(os.cpu_count() or 1, 4)


def extensions() -> list[Extension]:
    """One extension for each Cython source of the package, the largest first: they are built side by side."""
    # Two links stored one by one cost less than joined in a vector register first.
    flags = ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-fno-tree-slp-vectorize", "-g0"]
    found = []
    sources = sorted((ROOT / "asi_pa").rglob("*.pyx"), key=lambda path: (-path.stat().st_size, path))
    for source in sources:
        path = source.relative_to(ROOT)
        if ONLY and str(path.relative_to("asi_pa").with_suffix("")) not in ONLY:
            continue
        found.append(
            Extension(
                ".".join(path.with_suffix("").parts),
                [str(path)],
                include_dirs=[numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
                # No -march=native: a wheel built here must run anywhere.
                extra_compile_args=[*flags, "-fno-semantic-interposition", "-Wno-unused-function"],
            )
        )
    if found:
        found.append(Extension(SHARED, [SHARED.replace(".", "/") + ".c"], extra_compile_args=flags))
    return found


def translated(modules: list[Extension], apart: str | None = APART) -> list[Extension]:
    """The modules' C files, written beside the sources or under ``apart``.

    The sources set none of these directives themselves: that would override what is said here.
    """
    return cythonize(  # type: ignore[no-any-return]
        list(modules),
        nthreads=JOBS,
        quiet=True,
        annotate=ANNOTATE,
        build_dir=apart,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": not DEBUG,
            "initializedcheck": DEBUG,
            # Of which the first is to leave out the bounds checks.
            "show_performance_hints": not DEBUG,
            "embedsignature": True,
            # Without it stubs would have to list methods that only raise.
            "auto_pickle": False,
            # No module keeps anything that two threads write; an object is for one thread at a time.
            "freethreading_compatible": True,
        },
        shared_utility_qualified_name=SHARED,
    )


def need_compiler() -> None:
    """Ends with what to install where there is no C compiler, or nothing to compile against."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc")
    if shutil.which(words[0]) is None:
        sys.exit(
            f"asi_pa is compiled when it is installed, and the C compiler {words[0]!r} is not here: "
            "apt install gcc, dnf install gcc, or name another with CC=..."
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        sys.exit(f"no Python.h in {headers}: apt install python3-dev, dnf install python3-devel")


class BuildExt(build_ext):
    """Cython first, in parallel; only when extensions are really built, so that an sdist needs none of it."""

    def run(self) -> None:
        """Translate, then compile; everything, where what is in place is of the other kind."""
        if self.extensions:
            need_compiler()
        kind = "debug" if DEBUG else "plain"
        placed = STAMP.read_text() if STAMP.exists() else "plain"
        if self.inplace and placed != kind:
            self.force = True
            STAMP.parent.mkdir(exist_ok=True)
            STAMP.write_text("mixed")
        for extension, result in zip(self.extensions, translated(self.extensions), strict=True):
            extension.sources = result.sources
            extension.depends = result.depends
        super().run()
        if self.inplace and placed != kind and not ONLY:
            STAMP.write_text(kind)


# Cython's workers import this file again where they are not forked (Python 3.14 on).
if __name__ == "__main__":
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": BuildExt},
        options={"build_ext": {"parallel": str(JOBS)}},
    )
