"""The yardsticks, compiled on first import into ``build/benchmarks`` of the project, by the sources' hash."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

__all__ = ["Empty", "Limit", "Memory", "copy_memory", "set_memory"]

_HERE = Path(__file__).resolve().parent
_SOURCES = (_HERE / "_limit.pyx", _HERE / "buddy.h", Path(__file__))
_CACHE = _HERE.parent.parent / "build" / "benchmarks"


def _build(target: Path) -> None:
    """Translates and compiles ``_limit.pyx`` to ``target``."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        extension = Extension(
            "benchmarks.limit._limit",
            [str(_SOURCES[0])],
            include_dirs=[str(_HERE)],
            extra_compile_args=[
                "-O3",
                "-fno-tree-slp-vectorize",
                "-fno-semantic-interposition",
                "-Wno-unused-function",
            ],
        )
        modules = cythonize([extension], build_dir=work, quiet=True, language_level=3)
        command = build_ext(Distribution({"ext_modules": modules}))
        command.build_lib = command.build_temp = work
        command.ensure_finalized()
        command.run()
        Path(command.get_ext_fullpath("benchmarks.limit._limit")).replace(target)


def _load() -> ModuleType:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]
    target = _CACHE / f"_limit-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not target.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with open(_CACHE / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _build(target)
    spec = importlib.util.spec_from_file_location("benchmarks.limit._limit", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_module = _load()
Empty = _module.Empty
Limit = _module.Limit
Memory = _module.Memory
copy_memory = _module.copy_memory
set_memory = _module.set_memory
