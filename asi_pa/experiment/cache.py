"""What was computed, kept in the user's cache folder: a second look is instant, a stopped run goes on.

One SQLite file, bounded, of entries whose key is a hash of everything that they depend on: the inputs, the
options and the package's own files.  Where the folder cannot be used, all is computed, and nobody is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from asi_pa.designs import Design
from asi_pa.designs.describe import describe_design
from asi_pa.trace import Trace
from asi_pa.trace.format import EVENT_COLUMNS

__all__ = ["Cache", "cache_folder", "design_words", "key_of", "opened", "package_hash", "trace_hash"]

#: Bytes that the entries may take together.
LIMIT = 256 << 20
_PACKAGE = Path(__file__).resolve().parent.parent
_OWN = (".py", ".so", ".json")


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/asi_pa``, by default ``~/.cache/asi_pa``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asi_pa"


class Cache:
    """Entries of plain data by key.  Without a folder that can be used it is always empty."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._base: sqlite3.Connection | None = None
        if folder is not None:
            with contextlib.suppress(OSError, sqlite3.Error):
                folder.mkdir(parents=True, exist_ok=True)
                base = sqlite3.connect(folder / "results.sqlite", timeout=2, check_same_thread=False)
                base.execute("pragma synchronous=off")
                base.execute(
                    "create table if not exists entries"
                    "(key text primary key, used real, size integer, value blob)"
                )
                base.commit()
                self._base = base

    def get(self, key: str) -> Any:
        """The entry, or None."""
        found = self.get_bytes(key)
        try:
            return None if found is None else json.loads(zlib.decompress(found))
        except (zlib.error, ValueError):
            return None

    def put(self, key: str, value: Any) -> None:
        """Keep an entry of plain data."""
        self.put_bytes(key, zlib.compress(json.dumps(value).encode(), 1))

    def get_bytes(self, key: str) -> bytes | None:
        """The bytes that are kept there, whatever they are now, or None."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._base is not None:
                found = self._base.execute("select value from entries where key = ?", (key,)).fetchone()
                return None if found is None else bytes(found[0])
        return None

    def put_bytes(self, key: str, blob: bytes) -> None:
        """Keep bytes; the longest unused ones go where it gets too much."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._base is None or len(blob) > self._limit:
                return
            entry = (key, time.time(), len(blob), blob)
            self._base.execute("insert or replace into entries values (?, ?, ?, ?)", entry)
            (total,) = self._base.execute("select total(size) from entries").fetchone()
            if total > self._limit:
                self._base.execute(
                    "delete from entries where key in (select key from ("
                    "select key, sum(size) over (order by used desc) as upto from entries) where upto > ?)",
                    (self._limit,),
                )
            self._base.commit()

    @property
    def usable(self) -> bool:
        """Whether anything is kept at all."""
        return self._base is not None

    def close(self) -> None:
        """Nothing can be asked any more."""
        with self._lock:
            if self._base is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._base.close()
                self._base = None


@contextlib.contextmanager
def opened(cache: Cache | bool) -> Iterator[Cache]:
    """A cache as functions take it: one that stays open, True for the user's own, False for none."""
    if isinstance(cache, Cache):
        yield cache
        return
    with contextlib.closing(Cache(cache_folder() if cache else None)) as own:
        yield own


def key_of(*parts: Any) -> str:
    """A key that is another one whenever a part is."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def package_hash() -> str:
    """Of the package's own files: code, compiled code, data that it reads."""
    return _hash_files(path for path in sorted(_PACKAGE.rglob("*")) if path.suffix in _OWN)


def _hash_files(paths: Iterable[Path]) -> str:
    whole = hashlib.blake2b(digest_size=20)
    for path in paths:
        whole.update(f"{path.name}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def trace_hash(trace: Trace) -> str:
    """Of all that a trace holds."""
    whole = hashlib.blake2b(digest_size=20)
    exact = () if trace.exact is None else tuple(vars(trace.exact).values())
    for column in (*(getattr(trace, name) for name in EVENT_COLUMNS), trace.ext, *exact):
        whole.update(f"{len(column)} ".encode() + column.tobytes())
    for which in sorted(trace.kpageflags):
        flags = trace.kpf(which)
        if flags is not None:
            whole.update(flags.tobytes())
    names = (trace.name, trace.gfps, trace.comms, trace.gfp_names, trace.kernel, trace.cpus, trace.snapshots)
    orders = (trace.pageblock_order, trace.max_page_order, trace.description, trace.lost)
    more = (trace.migratetypes, trace.provenance.get("workload_start_ns"))
    whole.update(json.dumps([names, orders, more], sort_keys=True, default=str).encode())
    return whole.hexdigest()


def design_words(design: Design) -> str:
    """All that decides how a design behaves; of one with Python in it the file, too."""
    words = _described(design)
    if type(design) is not Design:
        source = inspect.getsourcefile(type(design))
        words += Path(source).read_text(encoding="utf-8") if source else repr(time.time_ns())
    return words


@lru_cache(maxsize=256)
def _described(design: Design) -> str:
    return describe_design(design)
