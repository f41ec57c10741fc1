"""What /proc and debugfs would show of memory at a moment of a replay, byte for byte as the kernel prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from asi_pa.allocator import Allocator
from asi_pa.designs import Design
from asi_pa.experiment.moment import Scene
from asi_pa.experiment.probe import Relief
from asi_pa.kernel.procfs import extfrag_index, parse_buddyinfo, unusable_index
from asi_pa.kernel.sizing import parse_size
from asi_pa.trace import DEFAULT_CLASSIFIER, Trace

__all__ = ["FORMS", "Form", "ProcTexts", "proc_texts", "texts_of"]

Form = Literal["buddyinfo", "pagetypeinfo", "zoneinfo", "extfrag_index", "unusable_index"]
#: The texts, as ``ProcTexts`` names them.
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class ProcTexts:
    """A replay's memory at a moment as text; `asi_pa.kernel.procfs` reads it back."""

    operation: int
    """Operations that are done."""
    buddyinfo: str
    """/proc/buddyinfo"""
    pagetypeinfo: str
    """/proc/pagetypeinfo; where a design has freetypes of its own, they stand for the migratetypes"""
    zoneinfo: str
    """/proc/zoneinfo with the lines that are modelled (docs/use/api.md#texts)"""
    extfrag_index: str
    """/sys/kernel/debug/extfrag/extfrag_index"""
    unusable_index: str
    """/sys/kernel/debug/extfrag/unusable_index"""

    def __repr__(self) -> str:
        return f"<ProcTexts after {self.operation:,} operations: {', '.join(FORMS)}>"

    @classmethod
    def of(cls, allocator: Allocator, operation: int = 0) -> ProcTexts:
        """Of an allocator as it is now."""
        zones = parse_buddyinfo(allocator.buddyinfo())
        return cls(
            operation,
            allocator.buddyinfo(),
            allocator.pagetypeinfo(),
            allocator.zoneinfo(),
            extfrag_index(zones),
            unusable_index(zones),
        )


def proc_texts(
    trace: str | Trace,
    design: str | Design = "linux",
    at: str | int | None = None,
    *,
    memory: str | int | None = None,
    classifier: str = DEFAULT_CLASSIFIER,
    recorded: bool = False,
    seed: int = 0,
    nodes: int | str = "recorded",
    kernel: str | None = None,
    reclaim: str | int | None = None,
    compaction: bool = True,
    fallbacks: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> ProcTexts:
    """What /proc would show at a moment of a replay.

    Parameters
    ----------
    trace, design, memory, classifier, seed, nodes, kernel : as of `asi_pa.replay`
    at : so many operations are done (0: the start state), or just after the K-th of what a word names
        (``"failure"``, ``"flip:3"``; the words of `asi-pa explain`); None: after the last
    recorded : the recorded machine with all its zones
    reclaim, compaction, fallbacks : what relieves a shortage; unless told otherwise as of `asi-pa compare`
    progress : called with (what, done, of) while a word is looked for

    Raises ValueError for a trace, design, size or moment that cannot be.
    """
    relief = Relief(parse_size(reclaim) if isinstance(reclaim, str) else reclaim, compaction, fallbacks)
    scene = Scene.of(trace, design, memory, classifier, kernel, relief, seed, recorded, nodes)
    return texts_of(scene, at, progress)


def texts_of(
    scene: Scene, at: str | int | None, progress: Callable[[str, int, int], None] | None = None
) -> ProcTexts:
    """`proc_texts`, of a replay that is made already."""
    operations = len(scene.compiled.ops)
    if at is None or str(at).replace(",", "") == str(operations):
        done = operations
    else:
        done = scene.operation(at, progress) + (not str(at).replace(",", "").isdecimal())
    machine = scene.at(done).machine
    return ProcTexts.of(Allocator(machine, machine.design, machine.kernel.version), done)
