"""Cuts the beginning off recorded runs: how ``tests/data/oracle`` is made.

A cut run is a recorded run in its own right: the first N operations with their answers, events and dumps.
Nothing in it is changed but the header's ``n_ops``; ``cut_of`` says how many operations the run had, and
``zeroed_pages`` and ``flushes``, which count over the whole run, are left out.  Arrays are stored column by
column, which packs better.

    python tests/verify/cut_recorded_run.py linux-7.2/D5-1.npz D5-1.npz 8000     one run
    python tests/verify/cut_recorded_run.py --subset ../shared/oracle            those of subset.txt
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data" / "oracle"


def cut(source: Path, target: Path, operations: int) -> None:
    """Writes the first ``operations`` of a recorded run, or all if it has no more; a dump ends it.

    Raises ValueError where the run has no dump after that many operations.
    """
    with np.load(source, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    meta = json.loads(str(arrays["meta"]))
    whole = len(arrays["ops"])
    n = min(operations, whole)
    dump_at = arrays["dump_at"]
    if n not in dump_at:
        raise ValueError(f"{source}: no dump after {n} operations; there are some after {dump_at.tolist()}")
    dumps = int(np.searchsorted(dump_at, n, side="right"))
    end = arrays["dump_off"][dumps] if dumps < len(dump_at) else len(arrays["dumps"])
    if n < whole:
        meta |= {"n_ops": n, "cut_of": whole}
        meta.pop("zeroed_pages", None)
        meta.pop("flushes", None)
    kept = {
        "meta": np.array(json.dumps(meta)),
        "ops": arrays["ops"][:n],
        "res": arrays["res"][:n],
        "dump_at": dump_at[:dumps],
        "dump_off": arrays["dump_off"][:dumps],
        "dumps": arrays["dumps"][:end],
    }
    if "resx" in arrays:
        kept["resx"] = arrays["resx"][:n]
    if "events" in arrays:
        kept["events"] = arrays["events"][arrays["events"][:, 0] < n]
    write(target, kept)


def write(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """An .npz file as NumPy reads it, the same bytes every time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            text = io.BytesIO()
            np.lib.format.write_array(text, np.asfortranarray(array) if array.ndim else array)
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, text.getvalue())


def subset() -> list[tuple[str, int]]:
    """The committed runs: path without .npz below the recorded sets, and how many operations of it."""
    lines = (DATA / "subset.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return [(name, int(operations)) for name, operations in rows]


def main(words: Sequence[str]) -> int:
    """The command; see the module's docstring."""
    if len(words) == 2 and words[0] == "--subset":
        for name, operations in subset():
            cut(Path(words[1]) / f"{name}.npz", DATA / f"{name}.npz", operations)
        return 0
    if len(words) == 3:
        cut(Path(words[0]), Path(words[1]), int(words[2]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
