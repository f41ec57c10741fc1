"""The readers under AddressSanitizer and UndefinedBehaviorSanitizer: a copy of the package, built and fuzzed
apart.

    python tests/sanitize.py [EXAMPLES]         the modules that see untrusted bytes (SHORT)
    python tests/sanitize.py --all [EXAMPLES]   every module (minutes to build)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "sanitize"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g"
SHORT = (
    "trace/scanner,trace/compiler,trace/mentions,trace/witness,trace/blocks,trace/holding,trace/cutting,"
    "run/track,run/recorded,engine/fill,engine/pcp"
)


def main() -> int:
    words = sys.argv[1:]
    whole = "--all" in words
    examples = next((word for word in words if word.isdecimal()), "300")
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        print("sanitize: no C compiler (on Debian: apt install gcc)", file=sys.stderr)
        return 2
    libraries = [library_of(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    if libraries[0] is None:
        print("sanitize: no libasan (on Debian: apt install libasan8)", file=sys.stderr)
        return 2
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in ("asi_pa", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, PLACE / name)
    environment = {**os.environ, "CFLAGS": FLAGS, "LDFLAGS": FLAGS}
    if not whole:
        environment["ASI_PA_ONLY"] = SHORT
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    subprocess.run(build, cwd=PLACE, env=environment, check=True)
    environment |= {
        # C++'s as well: AddressSanitizer must find its throw() before pyarrow, which reads Parquet, throws.
        "LD_PRELOAD": " ".join(library for library in libraries if library),
        # Python's own allocations live as long as the process.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", examples], cwd=PLACE, env=environment, check=False
    )
    return done.returncode


def library_of(compiler: str, name: str) -> str | None:
    """Where the compiler has a library; None where it has not."""
    done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip() if Path(done.stdout.strip()).is_absolute() else None


def copy(source: Path, target: Path) -> None:
    """A file or folder as it is now; built modules come along, so that only what is asked for is built
    anew."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
