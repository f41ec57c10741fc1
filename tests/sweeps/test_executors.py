"""Pieces of work on executors: each result once, errors with their piece, dead workers replaced."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

import asi_pa
from asi_pa.executors import Opened, WorkerDiedError, carry_out, check_executor
from tests.sweeps.pieces import deadly, slow, squared


def outcome(function, items, executor, retries=2):
    """Results and errors by piece."""
    done: dict[int, int] = {}
    failed: dict[int, Exception] = {}
    with Opened(executor) as opened:
        carry_out(function, items, opened, done.__setitem__, failed.__setitem__, retries)
    return done, failed


@pytest.mark.parametrize("words", ["here", "threads:3", "processes:2"])
def test_every_piece_is_done_once(words):
    done, failed = outcome(squared, range(20), words)
    assert done == {n: n * n for n in range(20) if n != 13}
    assert {number: str(error) for number, error in failed.items()} == {13: "thirteen"}


def test_an_executor_of_somebody_else_stays_open():
    with ThreadPoolExecutor(2) as pool:
        assert outcome(squared, range(5), pool)[0] == {n: n * n for n in range(5)}
        assert pool.submit(int).result() == 0


def test_a_dead_worker_is_found_and_nobody_else_is_lost(tmp_path):
    items = [(n, "") for n in range(8)]
    items[3], items[6] = (3, "always"), (6, str(tmp_path / "died"))
    done, failed = outcome(deadly, items, "processes:2", retries=1)
    assert done == {n: n for n in range(8) if n != 3}
    assert list(failed) == [3]
    assert isinstance(failed[3], WorkerDiedError)
    assert "2 times" in str(failed[3])


def test_an_interrupt_does_not_wait_for_what_is_under_way(tmp_path):
    def interrupted(_number, _result):
        raise KeyboardInterrupt

    items = [str(tmp_path / name) for name in ("first", "second", "third")]
    with pytest.raises(KeyboardInterrupt), Opened("processes:2") as opened:
        carry_out(slow, items, opened, interrupted, interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_future_that_a_broken_pool_forgets_is_no_reason_to_wait(monkeypatch):
    """submit() of Python 3.11 can add a piece to a pool that has just told all others that it is broken."""
    from concurrent.futures import ProcessPoolExecutor

    monkeypatch.setattr("asi_pa.executors._LOOK", 0.01)
    monkeypatch.setattr("asi_pa.executors._GRACE", 0.01)
    submit = ProcessPoolExecutor.submit
    forgotten: list[Future[int]] = []

    def forgetful(pool, fn, /, *args, **kwargs):
        if not forgotten:
            pool._broken = "one died"
            forgotten.append(Future())
            return forgotten[0]
        return submit(pool, fn, *args, **kwargs)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", forgetful)
    assert outcome(squared, range(3), "processes:1")[0] == {0: 0, 1: 1, 2: 4}
    assert len(forgotten) == 1


def test_workers_that_die_at_once_end_it_soon():
    done, failed = outcome(deadly, [(n, "always") for n in range(40)], "processes:1", retries=0)
    assert done == {}
    assert sorted(failed) == list(range(40))
    assert "__name__" in str(failed[39])


class Broken(Executor):
    """Takes three pieces, then no more."""

    def __init__(self):
        self.left = 3

    def submit(self, fn, /, *args, **kwargs):
        if not self.left:
            raise RuntimeError("no more")
        self.left -= 1
        future: Future[int] = Future()
        future.set_result(fn(*args))
        return future


def test_a_broken_executor_that_is_not_ours_leaves_the_rest_undone():
    done, failed = outcome(squared, range(6), Broken())
    assert done == {0: 0, 1: 1, 2: 4}
    assert sorted(failed) == [3, 4, 5]
    assert all("executor broke" in str(error) for error in failed.values())


def test_an_error_of_the_caller_ends_it_all():
    def refuse(number, result):
        raise KeyboardInterrupt

    with Opened("threads:2") as opened, pytest.raises(KeyboardInterrupt):
        carry_out(squared, range(50), opened, refuse, lambda *_: None)


@pytest.mark.parametrize(
    "words", ["proceses", "processes:0", "threads:x", "dask://", "dask://host", "mpi:3", ""]
)
def test_words_that_name_no_executor(words):
    with pytest.raises(ValueError, match="executor"):
        check_executor(words)


def test_words_that_name_one():
    assert check_executor("dask://head:8786") == ("dask", "head:8786")
    assert check_executor("processes:4") == ("processes", "4")


@pytest.mark.parametrize(("words", "module"), [("mpi", "mpi4py.futures"), ("dask://a:1", "distributed")])
def test_a_library_that_is_missing_is_named(monkeypatch, words, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {module.partition('.')[0]}"):
        Opened(words)


def test_an_audit_and_a_starvation_are_the_same_elsewhere(tmp_path):
    (tmp_path / "own.py").write_text(
        "from asi_pa import Design\n\n\nclass Own(Design):\n    def unmap_ahead(self, view):\n"
        "        return 0\n\n\n"
        "MINE = Own.based_on('migratetype', name='mine')\n"
    )
    words = ["migratetype/as-posted", f"{tmp_path / 'own.py'}:MINE"]
    limits: dict[str, Any] = {"depth": 2, "only": "smallest"}
    here = asi_pa.audit_design(words, **limits)
    there = asi_pa.audit_design(words, executor="processes:2", **limits)
    assert [hole.script for hole in here.findings] == [hole.script for hole in there.findings]
    assert not here.sound
    counted = ("design", "findings", "liveness", "depth", "states", "transitions")
    assert [[row[k] for k in counted] for row in here.records()] == [
        [row[k] for k in counted] for row in there.records()
    ]
    assert asi_pa.starve("linux", "32M") == asi_pa.starve("linux", "32M", executor="processes:2")
    with pytest.raises(ValueError, match="unknown scope 'nowhere'"):
        asi_pa.audit_design("pool", only="nowhere", executor="threads:2")
