"""What a kernel answered, as a recorded run: the arrays of docs/engine/model.md, written to an .npz file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.files import atomic_file
from oracle.qemu import KernelError, boot
from oracle.script import DUMP, FREES, Script

__all__ = ["Arrays", "record", "save"]

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

FREE_CODE = 2
DUMP_MAGIC = 0x504D5544
#: What ``describe()`` of driver/oracle_run.c writes, in its order.
HEADER = (
    "zone_start_pfn",
    "spanned",
    "present",
    "managed",
    "pageblock_order",
    "max_page_order",
    "migrate_types",
    "nr_pcp_lists",
    "nofragment",
    "nr_cpus",
    "stat_threshold",
    "boost_factor",
    "min_free_kbytes",
    "pcp_batch_scale_max",
    "kswapd_idle",
    "nr_loworder_pcp_lists",
    "defrag_mode",
    "mt_highatomic",
    "mt_cma",
    "mt_isolate",
    "zone2_start_pfn",
    "zone2_spanned",
    "zone2_present",
    "zone2_managed",
)


def record(image: Path, script: Script, kernel: str) -> Arrays:
    """Runs a script on a kernel and returns the recorded run's arrays.

    kernel : what the run's header says of the kernel; it selects the rules that it is compared with.

    Raises KernelError (a ValueError) where the kernel fails, OSError where QEMU cannot run.
    """
    setup = script.setup
    output = boot(
        image,
        script.packed(),
        zone_kib=setup.zone_kib,
        cpus=setup.cpus,
        dma32=setup.dma32 or setup.two_zones,
    )
    n = len(script.ops)
    head = np.frombuffer(output.out, np.int32, 64)
    answers = np.frombuffer(output.out, np.int32, 4 * n, 4096).reshape(n, 4).copy()
    if (answers[:, 0] == -99).any():
        row = int(np.flatnonzero(answers[:, 0] == -99)[0])
        raise KernelError(f"operation {row} got a page of another zone", output.log)
    at = 4096 + 16 * n
    watched = np.frombuffer(output.out, np.int32, 8 * n if setup.design else 0, at).reshape(-1, 8)
    words = np.frombuffer(output.out, np.int32, -1, at + watched.nbytes).copy()
    ops, kept = _resolved(script, answers[:, 0])
    row_of = (np.cumsum(kept) - 1).astype(np.int32)
    dump_at, dump_off = _index(words, row_of)
    arrays: Arrays = {
        "ops": ops[kept],
        "res": answers[kept],
        "dump_at": dump_at,
        "dump_off": dump_off,
        "dumps": words,
    }
    if setup.design:
        arrays["resx"] = watched[kept]
    if setup.compaction or setup.design:
        events = np.frombuffer(output.events, np.int32).reshape(-1, 6).copy()
        events[:, 0] = row_of[events[:, 0]]
        arrays["events"] = np.ascontiguousarray(events[:, : 5 if setup.design else 6])
    arrays["meta"] = np.array(json.dumps(_meta(script, head, kernel, int(kept.sum()))))
    return arrays


def _resolved(
    script: Script, results: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """The operations with frees that say what they freed; which stay: a free of nothing does not."""
    table = np.asarray(script.ops, np.int64)
    is_free = np.isin(table[:, 0], FREES)
    kept = ~is_free | (results >= 0)
    row_of = np.cumsum(kept) - 1
    ops = table.astype(np.int32)
    ops[is_free] = 0
    ops[is_free, 0] = FREE_CODE
    freed = is_free & kept
    ops[freed, 3] = row_of[results[freed]]
    ops[is_free, 5] = table[is_free, 5]
    ops[table[:, 0] == DUMP, 1:5] = 0
    results[is_free] = 0
    return (ops if script.setup.cpus > 1 else np.ascontiguousarray(ops[:, :5])), kept


def _index(
    words: npt.NDArray[np.int32], row_of: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Where dumps are, renumbered to the operations that stay."""
    at, off, k = [], [], 0
    while k < len(words):
        if words[k] != DUMP_MAGIC or words[k + 2] <= 0:
            raise KernelError(f"word {k} of the dumps is not the beginning of one", "")
        after = int(words[k + 1])
        words[k + 1] = row_of[after - 1] + 1 if after else 0
        at.append(words[k + 1])
        off.append(k)
        k += int(words[k + 2])
    return np.array(at, np.int32), np.array(off, np.int32)


def _meta(script: Script, head: npt.NDArray[np.int32], kernel: str, n: int) -> dict[str, Any]:
    setup = script.setup
    meta: dict[str, Any] = dict(zip(HEADER, head[2 : 2 + len(HEADER)].tolist(), strict=True))
    meta.update(
        name=script.name,
        desc=script.description,
        kernel=kernel,
        pcp_bypassed=setup.bypass,
        exact_counters=setup.exact,
        zone_mib=setup.zone_kib / 1024,
        dma32_present=setup.dma32 or setup.two_zones,
        cma_start=setup.cma[0],
        cma_pages=setup.cma[1],
        wmarks_forced=list(setup.wmark) if setup.wmark else None,
        pcp_forced=list(setup.pcp) if setup.pcp else None,
        holes=[list(hole) for hole in setup.holes],
        n_ops=n,
    )
    return meta


def save(path: str | os.PathLike[str], arrays: Arrays, *, small: bool = True) -> None:
    """Writes a recorded run, whole or not at all; ``small`` compresses it."""
    with atomic_file(path) as out:
        (np.savez_compressed if small else np.savez)(out, **arrays)  # type: ignore[arg-type]
