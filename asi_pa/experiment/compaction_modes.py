"""The ways to compact, side by side, on the fragmented machine.

Plain Linux, unmovable pageblocks; beside the model what unmodified kernels did on the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from asi_pa.designs import as_design
from asi_pa.experiment import build
from asi_pa.experiment.costs import LABEL, Costs, compaction_time, duration, load_costs
from asi_pa.experiment.starvation import asked_in, asking
from asi_pa.kernel.gfp import GFP_NOWAIT
from asi_pa.kernel.sizing import parse_size
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC
from asi_pa.trace.ops import OP

__all__ = ["RECORDED", "Mode", "modes", "modes_text"]

#: name -> priority of a direct compaction, None for the others.
_MODES: dict[str, int | None] = {
    "async": 2,
    "light": 1,
    "full": 0,
    "kcompactd": None,
    "proactive": None,
    "compact_memory": None,
}


@dataclass(frozen=True)
class Mode:
    """What one way to compact makes of the fragmented machine, on plain Linux."""

    mode: str
    """Its name; of a recorded machine also what it did in turn."""
    kernel: str
    blocks: int
    """Pageblocks obtained (direct), or free at the end."""
    asked: int
    """How many were asked for, or how often it ran."""
    pages_moved: int
    migrate_scanned: int
    """Frames looked at to move from."""
    free_scanned: int
    """Frames looked at to move to."""
    deferred: int
    recorded: str = ""
    """The set of recorded runs; empty: the model's."""

    def modelled_ns(self, costs: Costs) -> float:
        """What moves and scans take by a table of costs: a cost model, not a measurement."""
        return compaction_time(costs, self.pages_moved, self.migrate_scanned, self.free_scanned)


#: What unmodified kernels did on this machine of 1 GiB: events 5, 8 and 11 and the answers of the first
#: recorded run of each set, summed (tests/experiment/test_starvation.py counts them again).
RECORDED = (
    Mode("compact_memory", "7.2", 395, 1, 44_064, 176_640, 60_240, 0, "compaction-7.2 S1"),
    Mode("async, light", "7.2", 380, 500, 55_136, 179_030, 110_965, 0, "compaction-7.2 S2"),
    Mode("light", "7.2", 250, 250, 33_536, 108_654, 56_199, 0, "compaction-7.2 S3"),
    Mode("light, full", "7.2", 380, 500, 50_688, 173_854, 107_805, 0, "compaction-7.2 S6"),
    Mode("async, light", "6.12", 276, 500, 28_800, 115_200, 68_504, 0, "compaction-6.12 S2"),
    Mode("light, full", "6.12", 371, 500, 46_176, 165_920, 523_312, 64, "compaction-6.12 S6"),
)


def modes(memory: str | int = "1G", *, kernels: Sequence[str] = ("7.2", "6.12"), seed: int = 0) -> list[Mode]:
    """The scenario's machine, then an unmovable pageblock over and over by each way to compact.

    Direct compaction (as __alloc_pages_direct_compact does it, capture included) is asked as often as there
    are pageblocks; kcompactd runs whenever somebody who may not compact found none; the others run once.
    With 1 GiB, the recorded machine's size, its rows follow.
    """
    stress = asking("stress", memory, seed)
    asked = asked_in(stress)
    rows = [_mode(stress, asked, mode, kernel) for kernel in kernels for mode in _MODES]
    if parse_size(memory) == 1 << 30:
        rows += [row for row in RECORDED if row.kernel in kernels]
    return rows


def _kcompactd(compiled: CompiledTrace, run: Replay, start: int, block: int, times: int) -> int:
    """Pageblocks for somebody who may not compact himself, kcompactd running whenever there was none."""
    rows = np.zeros(1, OP)
    rows["op"], rows["order"], rows["cls"] = OP_ALLOC, block, len(compiled.classes) - 1
    got = 0
    for slot in compiled.ops["slot"][start : start + times].tolist():
        rows["slot"] = slot
        for attempt in range(2):
            if attempt:
                run.kcompactd(block)
            failures = run.failures
            run.run(rows)
            if run.failures == failures:
                got += 1
                break
    return got


def _mode(compiled: CompiledTrace, asked: int, mode: str, kernel: str) -> Mode:
    nowait = np.uint32(GFP_NOWAIT)
    compiled = replace(compiled, classes=np.append(compiled.classes, nowait))
    machine, run, _ = build(compiled, as_design("linux"), kernel, compaction=True)
    start = len(compiled.ops) - asked
    run.run(compiled.ops, 0, start)
    block = compiled.machine.pageblock_order
    nblocks = len(run.block_kinds())
    before, times, got = machine.stats(), 1, 0
    priority = _MODES[mode]
    if priority is not None:
        times, cls = nblocks, int(compiled.ops["cls"][start])
        for slot in compiled.ops["slot"][start : start + times].tolist():
            got += run.direct_compact(block, cls, slot, priority)[1] >= 0
    elif mode == "kcompactd":
        times = nblocks
        got = _kcompactd(compiled, run, start, block, times)
    else:
        run.compact_node(proactive=mode == "proactive")
    after = machine.stats()
    if mode in ("proactive", "compact_memory"):
        got = int((run.block_kinds() >= 0x80).sum())
    done = {name: after[name] - before[name] for name in after}
    return Mode(
        mode,
        kernel,
        got,
        times,
        done["compact_moved"],
        done["compact_migrate_scanned"],
        done["compact_free_scanned"],
        done["compact_deferred"],
    )


def modes_text(rows: Sequence[Mode], costs: Costs | None = None) -> str:
    """A table for the terminal, with the time by a table of costs (None: the one that comes along)."""
    costs = costs or load_costs()
    names = ("pageblocks", "asked", "pages moved", "scanned: from", "to", "deferred", "time")
    lines = [f"{'kernel':8}{'way':16}" + "".join(f"{name:>14}" for name in names)]
    for row in rows:
        cells = (
            row.blocks,
            row.asked,
            row.pages_moved,
            row.migrate_scanned,
            row.free_scanned,
            row.deferred,
        )
        figures = "".join(f"{cell:>14,}" for cell in cells)
        source = f"  recorded: {row.recorded}" if row.recorded else ""
        time = duration(row.modelled_ns(costs))
        lines.append(f"{row.kernel:8}{row.mode:16}{figures}{time:>14}{source}")
    lines.append(f"time: of moves and scans, by the table of costs; {LABEL}")
    return "\n".join(lines) + "\n"
