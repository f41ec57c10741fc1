"""A sweep wherever it can run, with and without deaths on the way: every file must have the same bytes.

    python -m tests.sweeps.everywhere examples/main.toml

runs the sweep in one process, in two, on two workers of dask.distributed (a scheduler and two ``dask worker``
of their own) and, where mpi4py is installed, on two workers of MPI; then each again with ``kill -9`` of a
worker and of the coordinator midway, after which the same command is given again.  One line each; status 1
where a byte differs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Ran", "Victim", "coordinator", "dask_cluster", "files", "of_dask", "run", "spawned", "workers_of"]

#: From the pid that was started, and those of Dask's workers: the one to kill.
Victim = Callable[[int, list[int]], int]


def files(folder: Path) -> dict[str, bytes]:
    """Bytes by file, below points and needs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for place in ("points", "needs")
        for path in sorted((folder / place).iterdir())
    }


def pythons_of(parent: int, word: str) -> list[int]:
    """Pythons, below that process, whose command has the word."""
    parents, found = {}, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    for pid in parents:
        above = pid
        while above != parent and above in parents:
            above = parents[above]
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if above == parent != pid and command.startswith(sys.executable) and word in command:
            found.append(pid)
    return sorted(found)


def coordinator(pid: int, _workers: list[int]) -> int:
    """The process that was started."""
    return pid


def spawned(pid: int, _workers: list[int]) -> int:
    """A worker that it spawned."""
    return pythons_of(pid, "spawn_main")[-1]


def of_dask(_pid: int, workers: list[int]) -> int:
    """A worker of Dask's."""
    return workers[-1]


def rank(number: int) -> Victim:
    """A process of mpiexec's; the first is the coordinator."""
    return lambda pid, _workers: pythons_of(pid, "mpi4py.futures")[number]


def wait_until(there: Callable[[], bool], running: subprocess.Popen[bytes], seconds: float = 600) -> None:
    """Until something is there, while a process runs.  Raises AssertionError otherwise."""
    until = time.monotonic() + seconds
    while not there():
        assert running.poll() is None, f"{running.args!r} ended with status {running.returncode}"
        assert time.monotonic() < until, f"{running.args!r}: nothing after {seconds} s"
        time.sleep(0.01)


@contextmanager
def dask_cluster(place: Path, workers: int = 2) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and workers of one thread on this machine; its executor's words, and the workers' pids."""
    known = place / "scheduler.json"
    begin = [sys.executable, "-m", "dask"]
    at = ["--scheduler-file", str(known), "--host", "127.0.0.1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": place}
    made = [subprocess.Popen([*begin, "scheduler", "--port", "0", *at], **quiet)]  # type: ignore[call-overload]
    try:
        wait_until(known.exists, made[0])
        address = json.loads(known.read_text())["address"].removeprefix("tcp://")
        for _ in range(workers):
            words = [*begin, "worker", "--no-nanny", "--nthreads", "1", *at]
            made.append(subprocess.Popen(words, **quiet))  # type: ignore[call-overload]
        yield f"dask://{address}", [each.pid for each in made[1:]]
    finally:
        for each in reversed(made):
            each.kill()
            each.wait()


@contextmanager
def workers_of(executor: str, place: Path) -> Iterator[tuple[str, list[int]]]:
    """An executor's words, and the pids of its workers where they are there before the sweep is."""
    if executor == "dask":
        with dask_cluster(place) as made:
            yield made
    else:
        yield executor, []


class Ran:
    """What a run of a sweep came to."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.said = b""
        self.points_at_kill: int | None = None
        self.points_after = 0
        self.again = False


def run(
    asked: Path,
    folder: Path,
    executor: str,
    workers: list[int],
    victim: Victim | None = None,
    at: int = 4,
) -> Ran:
    """Sweeps; kills the victim as soon as so many points are there, and asks again if that ended it."""
    python = [sys.executable]
    if executor == "mpi":
        python = ["mpiexec", "-n", "3", *python, "-m", "mpi4py.futures"]
    words = [*python, "-m", "asi_pa", "sweep", str(asked), "--folder", str(folder)]
    words += ["--executor", executor, "--quiet"]
    ran = Ran()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        try:
            if victim is not None:
                wait_until(lambda: _points(folder) >= at, running)
                subprocess.run(["kill", "-9", str(victim(running.pid, workers))], check=True)
                ran.points_at_kill = _points(folder)
            _, ran.said = running.communicate(timeout=3600)
        finally:
            running.kill()
    ran.status, ran.points_after = running.returncode, _points(folder)
    if ran.status != 0 and victim is not None:
        ran.again = True
        subprocess.run(words, check=True, capture_output=True)
    return ran


def _points(folder: Path) -> int:
    return len(list(folder.glob("points/*.parquet")))


def _digest(held: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + b"\0" + data for name, data in held.items())).hexdigest()


def main(words: list[str]) -> int:
    """The table."""
    asked = Path(words[0]).resolve()
    ways: dict[str, dict[str, Victim | None]] = {
        "here": {"nobody": None, "the coordinator": coordinator},
        "processes:2": {"nobody": None, "a worker": spawned, "the coordinator": coordinator},
        "dask": {"nobody": None, "a worker": of_dask, "the coordinator": coordinator},
    }
    if find_spec("mpi4py") and shutil.which("mpiexec"):
        ways["mpi"] = {"nobody": None, "a worker": rank(-1), "the coordinator": rank(0)}
    first, same = "", True
    with tempfile.TemporaryDirectory(prefix="asi_pa-everywhere-") as made:
        for executor, victims in ways.items():
            for who, victim in victims.items():
                place = Path(made, f"{executor}-{who}".replace(" ", "-"))
                place.mkdir()
                began = time.monotonic()
                with workers_of(executor, place) as (name, pids):
                    ran = run(asked, place / "sweep", name, pids, victim, 20)
                held = files(place / "sweep")
                first = first or _digest(held)
                same &= _digest(held) == first
                when = "" if ran.points_at_kill is None else f" at {ran.points_at_kill} points"
                then = f", status {ran.status}"
                if ran.again:
                    then += f" with {ran.points_after} points, asked again"
                bytes_ = "the same bytes" if _digest(held) == first else "OTHER BYTES"
                print(
                    f"{executor:12} killed: {who}{when}{then}; {_points(place / 'sweep')} points, "
                    f"{len(held)} files, {bytes_}; {time.monotonic() - began:.0f} s",
                    flush=True,
                )
    print(f"sha256 of all names and bytes: {first}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
