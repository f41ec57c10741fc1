"""Threads that take units of work one by one; those that find none left help the others with theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asi_pa.audit.unit import Part, Unit, UnitResult, Worker, search_unit

__all__ = ["search_units"]


@dataclass
class _Offer:
    """Parts of a unit's work, to be taken by number."""

    count: int
    work: Callable[[Any, int], Any]
    make: Callable[[], Any]
    spare: list[Any]
    """Workers that a thread made and another may take."""
    parts: list[Any]
    taken: int = 0
    running: int = 0
    errors: list[BaseException] = field(default_factory=list)

    def next(self) -> int | None:
        if self.taken == self.count or self.errors:
            return None
        self.taken += 1
        self.running += 1
        return self.taken - 1


class _Pool:
    """The units, the offers of those under way, and the threads that wait; all under one lock."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._next = 0
        self._driven = 0
        self._waiting = 0
        self._stop = False
        self._offers: list[_Offer] = []
        self._done: list[tuple[int, UnitResult | BaseException]] = []
        self._changed = threading.Condition()

    # -- what a unit under way asks (unit.Helpers)

    def idle(self) -> bool:
        return self._waiting > 0

    def stopped(self) -> bool:
        return self._stop

    def together(
        self,
        count: int,
        work: Callable[[Worker, int], Part],
        own: Worker,
        make: Callable[[], Worker],
        spare: list[Worker],
    ) -> list[Part]:
        offer = _Offer(count, work, make, spare, [None] * count)
        with self._changed:
            self._offers.append(offer)
            self._changed.notify_all()
        self._take_part(offer, own)
        with self._changed:
            self._offers.remove(offer)
            while offer.running:
                self._changed.wait()
        if offer.errors:
            raise offer.errors[0]
        return offer.parts

    def _take_part(self, offer: _Offer, worker: Any) -> None:
        while True:
            with self._changed:
                number = offer.next()
            if number is None:
                return
            try:
                offer.parts[number] = offer.work(worker, number)
            except BaseException as error:
                offer.errors.append(error)
            finally:
                with self._changed:
                    offer.running -= 1
                    if not offer.running:
                        self._changed.notify_all()

    # -- the threads

    def serve(self) -> None:
        """A thread's life: units while there are any, then parts of those that others have under way."""
        while True:
            with self._changed:
                found = self._find()
                while found is None and self._driven and not self._stop:
                    self._waiting += 1
                    self._changed.wait()
                    self._waiting -= 1
                    found = self._find()
            if found is None:
                return
            if isinstance(found, _Offer):
                self._help(found)
            else:
                self._drive(found)

    def _find(self) -> _Offer | int | None:
        """The lock is held."""
        if self._stop:
            return None
        if self._next < len(self._units):
            self._next += 1
            self._driven += 1
            return self._next - 1
        return next((offer for offer in self._offers if offer.taken < offer.count), None)

    def _help(self, offer: _Offer) -> None:
        with self._changed:
            worker = offer.spare.pop() if offer.spare else None
        try:
            worker = offer.make() if worker is None else worker
        except BaseException as error:
            offer.errors.append(error)
            return
        self._take_part(offer, worker)
        with self._changed:
            offer.spare.append(worker)

    def _drive(self, number: int) -> None:
        answer: UnitResult | BaseException
        try:
            answer = search_unit(self._units[number], self)
        except BaseException as error:
            answer = error
        with self._changed:
            self._driven -= 1
            self._done.append((number, answer))
            self._changed.notify_all()
        del answer  # an error that holds this frame, which would hold it

    # -- the thread that started them

    def results(self, each: Callable[[int, UnitResult], None]) -> None:
        """Calls ``each`` with every unit's number and result, as they are done; raises what a unit raised."""
        for _ in self._units:
            with self._changed:
                while not self._done:
                    self._changed.wait()
                number, answer = self._done.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            each(number, answer)

    def stop(self) -> None:
        """Threads end after what they have under way; exploring and walking ends early."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()


def search_units(units: Sequence[Unit], jobs: int, each: Callable[[int, UnitResult], None]) -> None:
    """Searches the units on ``jobs`` threads; ``each`` is called in this thread, as units are done.

    Results are the same for every number of jobs.  Raises what a unit raises; on that and on Ctrl-C the
    threads end within a second.
    """
    pool = _Pool(units)
    threads = [threading.Thread(target=pool.serve, name=f"audit-{i}", daemon=True) for i in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        pool.results(each)
    finally:
        pool.stop()
        for thread in threads:
            thread.join()
