"""Many independent pieces of work on any ``concurrent.futures.Executor``: this machine's processes, others'.

An executor is an object, or words: ``processes`` (as many as there are processors; ``processes:4``),
``threads``, ``here`` (one after the other in this process), ``dask://HOST:PORT`` (the scheduler of a cluster
of dask.distributed), ``mpi`` (mpi4py.futures).  A piece whose worker dies is tried again a bounded number of
times; where one pool dies with all that it was doing, these pieces are tried again one at a time, so that the
guilty one is found and nobody else is given up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

__all__ = ["RETRIES", "Opened", "WorkerDiedError", "carry_out", "check_executor", "processors"]

#: How often a piece is tried again whose worker died.
RETRIES = 2
_T = TypeVar("_T")
_R = TypeVar("_R")
#: So many pieces in a row that kill their workers, and it is not the pieces.
_GUILTY = 3
#: Seconds between looks at whether a pool broke, and until what it was doing counts as lost.
_LOOK, _GRACE = 5.0, 2.0
#: Pieces that a foreign executor of unknown size is given ahead.
_AHEAD = 256
_FOREIGN = "the executor broke, and it is not ours to make anew"
_USELESS = "workers die at once, whatever they are given (has the script its if __name__ == '__main__':?)"
_FORMS = "processes[:N], threads[:N], here, dask://HOST:PORT, mpi"


class WorkerDiedError(RuntimeError):
    """A piece of work took every worker with it that tried it."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to who gave it work, and ends when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


class _Here(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _number(words: str, text: str) -> int:
    if not text:
        return processors()
    if not text.isdecimal() or not 0 < int(text) <= 4096:
        raise ValueError(f"executor {words!r}: {text!r} is not a number from 1 to 4096")
    return int(text)


def check_executor(words: str) -> tuple[str, str]:
    """Kind and rest of an executor's words.  Raises ValueError for words that name none."""
    if words.startswith("dask://") and ":" in words[7:]:
        return "dask", words[7:]
    kind, colon, rest = words.partition(":")
    if kind in ("processes", "threads") and (rest or not colon):
        _number(words, rest)
        return kind, rest
    if words in ("here", "mpi"):
        return words, ""
    raise ValueError(f"executor {words!r}: none of {_FORMS}")


class Opened:
    """An executor in use, a context; one that was given as words is made here, closed, and made anew.

    Raises ValueError for unknown words, ImportError for a library that is not installed, OSError for a
    cluster that does not answer.
    """

    def __init__(self, executor: str | Executor | None) -> None:
        self.words = executor if isinstance(executor, str) else "processes" if executor is None else ""
        self._client: Any = None
        self._made = bool(self.words)
        self.executor: Executor = self._make() if isinstance(executor, str) or executor is None else executor

    @property
    def name(self) -> str:
        """For the record of a sweep."""
        return self.words or type(self.executor).__name__

    @property
    def ahead(self) -> int:
        """How many pieces it is given at a time."""
        if isinstance(self.executor, _Here):
            return 1
        return 2 * int(getattr(self.executor, "_max_workers", 0) or _AHEAD // 2)

    def _make(self) -> Executor:
        kind, rest = check_executor(self.words)
        if kind == "here":
            return _Here()
        if kind == "threads":
            return ThreadPoolExecutor(_number(self.words, rest))
        if kind == "dask":
            return self._dask(rest)
        if kind == "mpi":
            try:
                from mpi4py.futures import MPIPoolExecutor
            except ImportError as error:
                raise ImportError(f"executor mpi needs mpi4py: pip install mpi4py ({error})") from error
            made: Executor = MPIPoolExecutor()
            return made
        return ProcessPoolExecutor(
            _number(self.words, rest), multiprocessing.get_context("spawn"), initializer=_begin_worker
        )

    def _dask(self, address: str) -> Executor:
        try:
            from distributed import Client
        except ImportError as error:
            raise ImportError(f"executor {self.words} needs dask: pip install distributed") from error
        try:
            self._client = Client(f"tcp://{address}", timeout=10)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError) as error:
            raise OSError(f"executor {self.words}: no scheduler answers there") from error
        # each call is work of its own, even where two have the same arguments
        made: Executor = self._client.get_executor(pure=False)
        return made

    def renew(self) -> bool:
        """Another executor in the place of one that broke; False where it was given as an object."""
        if not self._made:
            return False
        self._close()
        self.executor = self._make()
        return True

    def _close(self, *, at_once: bool = False) -> None:
        if _said_broken(self.executor) or (at_once and isinstance(self.executor, ProcessPoolExecutor)):
            # It ends its workers itself, but one that is just being started can be left over, and waited for.
            # After Ctrl-C nobody waits for pieces under way, which may be minutes of work.
            for process in list((getattr(self.executor, "_processes", None) or {}).values()):
                process.kill()
            self.executor.shutdown(wait=False, cancel_futures=True)
            return
        if self._client is None:
            self.executor.shutdown(wait=True, cancel_futures=True)
            return
        self.executor.shutdown(wait=False)  # which cancels what is under way
        self._client.close()
        self._client = None

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._made:
            self._close(at_once=kind is not None and not issubclass(kind, Exception))


def _lost(error: BaseException) -> bool:
    """Whether the worker went, and not the work that failed."""
    foreign = type(error).__module__.partition(".")[0]
    return isinstance(error, (BrokenExecutor, CancelledError)) or foreign == "distributed"


class _Work:
    """Pieces by number: those not begun, those under suspicion, those under way."""

    def __init__(self, count: int, retries: int) -> None:
        self.fresh = deque(range(count))
        self.suspects: deque[int] = deque()
        self.running: dict[Future[Any], int] = {}
        self.deaths: Counter[int] = Counter()
        self.retries = retries
        self.broke = 0
        """How often the executor broke since the last result."""

    @property
    def left(self) -> bool:
        return bool(self.fresh or self.suspects or self.running)

    def next(self, ahead: int) -> int | None:
        """The piece to begin now: a suspect alone, else as many as the executor takes."""
        if self.suspects:
            return self.suspects.popleft() if not self.running else None
        return self.fresh.popleft() if self.fresh and len(self.running) < ahead else None

    def died(self, pieces: Sequence[int], alone: bool) -> list[int]:
        """These lost their worker; returns those that are given up."""
        given_up = []
        for piece in pieces:
            self.deaths[piece] += alone
            if self.deaths[piece] > self.retries:
                given_up.append(piece)
            else:
                self.suspects.append(piece)
        return given_up


def carry_out(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    opened: Opened,
    done: Callable[[int, _R], None],
    failed: Callable[[int, Exception], None],
    retries: int = RETRIES,
) -> None:
    """``function`` of every item, in any order; ``function``, items and results must be picklable.

    ``done(number, result)`` and ``failed(number, error)`` are called in this thread as soon as there is
    something to say; a piece that was given up fails with `WorkerDiedError`.  An exception of theirs, or
    Ctrl-C, ends it all: what is under way is waited for, its results are not asked for.
    """
    work = _Work(len(items), retries)

    def collect(futures: Iterable[Future[_R]]) -> list[int]:
        lost = []
        for future in futures:
            piece = work.running.pop(future)
            try:
                result = future.result()
                work.broke = 0
            except Exception as error:
                if _lost(error):
                    lost.append(piece)
                else:
                    work.broke = 0
                    failed(piece, error)
            else:
                done(piece, result)
        return lost

    try:
        while work.left:
            refused = _begin(work, function, items, opened)
            alone = len(work.running) + len(refused) == 1
            lost = refused + collect(wait(work.running, _LOOK, FIRST_COMPLETED).done)
            if _said_broken(opened.executor) or (lost and _broken(opened.executor)):
                # A process that dies breaks its whole pool, and nothing of it runs any more.  What was given
                # to it in that moment may never hear of it (submit() races the pool's thread, Python 3.11).
                lost += collect(wait(work.running, _GRACE).done)
                lost += work.running.values()
                work.running.clear()
                work.broke += 1
                useless = work.broke > _GUILTY * (retries + 1)
                if useless or not opened.renew():
                    for piece in (*lost, *work.suspects, *work.fresh):
                        failed(piece, WorkerDiedError(_USELESS if useless else _FOREIGN))
                    return
            for piece in work.died(lost, alone):
                failed(piece, WorkerDiedError(f"its worker died {work.deaths[piece]} times"))
    except BaseException:
        for future in work.running:
            future.cancel()
        raise


def _begin(work: _Work, function: Callable[[Any], Any], items: Sequence[Any], opened: Opened) -> list[int]:
    """Gives the executor what it takes; returns what it refused because it is broken."""
    while (piece := work.next(opened.ahead)) is not None:
        try:
            work.running[opened.executor.submit(function, items[piece])] = piece
        except RuntimeError:  # BrokenExecutor is one
            return [piece]
    return []


def _said_broken(executor: Executor) -> bool:
    """Whether a pool of processes knows that one of them died."""
    return isinstance(executor, ProcessPoolExecutor) and bool(getattr(executor, "_broken", False))


def _broken(executor: Executor) -> bool:
    """Whether an executor takes no more work."""
    try:
        executor.submit(int)
    except RuntimeError:
        return True
    return False
