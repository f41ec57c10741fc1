"""Do replays in two threads run at once?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .harness import alive_pages, filled_engine, free_pages, measure, prepared


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark, threads):
    stream = prepared("a")

    def run(replays):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda replay: replay.run(stream.ops), replays))
        return replays

    replays = measure(
        benchmark,
        "stream a in one and in two threads, a machine each",
        lambda: [filled_engine(stream) for _ in range(threads)],
        run,
        threads * len(stream.ops),
    )
    for replay in replays:
        assert free_pages(replay) == stream.pages - alive_pages(stream.fill, stream.ops)
