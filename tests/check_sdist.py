"""Build the sdist, build a wheel from it, install that with its dependencies in an empty environment, run it.

Run by ``make sdist`` with the environment that has the build tools.  The extensions are compiled with
bounds checks (ASI_PA_DEBUG=1), which is faster to build and makes the smoke run look harder.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parent.parent
#: What the sdist must hold besides everything that the package imports.
WANTED = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
    "setup.py",
    "tests/check_sdist.py",
)

#: Commands of the installed package that must succeed, with numpy alone.
SMOKE = (
    ("designs",),
    ("info", "redis"),
    ("compare", "redis", "--quick", "--quiet"),
    ("verify", str(ROOT / "tests" / "data" / "oracle" / "linux-7.2" / "D3z-1.npz")),
)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command's standard output; its whole output and an exit when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\ncheck_sdist: {' '.join(map(str, command))} exited {done.returncode}")
    return done.stdout


def main() -> None:
    """The check; exits non-zero with what went wrong."""
    with tempfile.TemporaryDirectory(prefix="asi_pa-sdist-") as name:
        work = Path(name)
        build = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
        run(sys.executable, "-c", build, work, cwd=ROOT)
        (archive,) = work.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            names = [PurePath(*PurePath(name).parts[1:]) for name in tar.getnames()]
        missing = [path for path in WANTED if PurePath(path) not in names]
        if missing:
            sys.exit(f"check_sdist: not in the sdist: {', '.join(missing)}")
        built_files = [
            path for path in names if path.suffix in (".so", ".pyc", ".c") and path.parts[0] == "asi_pa"
        ]
        if built_files:
            sys.exit(f"check_sdist: built files in the sdist: {built_files[0]}")

        pip = (sys.executable, "-m", "pip", "--quiet")
        wheel = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, archive)
        run(*pip, *wheel, cwd=work, ASI_PA_DEBUG="1")
        (built,) = work.glob("*.whl")
        venv.create(work / "env", with_pip=False)
        python = work / "env" / "bin" / "python"
        run(*pip, "--python", python, "install", built, cwd=work)
        sources = {
            path.relative_to(ROOT / "asi_pa").with_suffix("") for path in (ROOT / "asi_pa").rglob("*.pyx")
        }
        modules = [".".join(("asi_pa", *path.parts)) for path in sorted(sources)]
        run(python, "-c", "".join(f"import {module}\n" for module in modules) + "import asi_pa", cwd=work)
        version = run(work / "env" / "bin" / "asi-pa", "--version", cwd=work)
        for command in SMOKE:
            run(python, "-m", "asi_pa", *command, cwd=work)
        print(f"sdist: {archive.name} builds, installs and runs ({version.strip()})")


if __name__ == "__main__":
    main()
