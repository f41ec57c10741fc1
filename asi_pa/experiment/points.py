"""One trace, made ready for a machine of the size that was asked for, whatever way it was asked."""

from __future__ import annotations

import os
from collections.abc import Callable

from asi_pa.designs import DESIGNS, REFERENCE
from asi_pa.experiment.cache import Cache
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rows import SeedStarts, linux_needs
from asi_pa.experiment.sizes import Size, as_size
from asi_pa.experiment.starts import kept_starts
from asi_pa.experiment.study import Subject, at_size
from asi_pa.kernel.numa import RECORDED, Nodes
from asi_pa.trace import DEFAULT_CLASSIFIER, Classifier, CompiledTrace, Trace, load_trace

__all__ = ["compile_trace", "compiled_at", "needs", "start_at"]


def needs(subject: Subject, seed: int, kernel: str | None, relief: Relief) -> float | None:
    """What linux needs with a seed, MiB, by the search of a comparison; None where no size is enough."""
    starts = SeedStarts(subject.starts, subject.whole, seed, subject.most)
    return linux_needs(starts, DESIGNS[REFERENCE], kernel, relief, subject.guess)


def start_at(
    subject: Subject, size: Size, seed: int, kernel: str | None, relief: Relief, need: float | None = None
) -> CompiledTrace:
    """The start state of a size; ``need``: what linux needs, MiB, where that was found already.

    Raises ValueError for a size that cannot be.
    """
    pages = size.of(lambda: needs(subject, seed, kernel, relief) if need is None else need, subject.most)
    return at_size(subject, pages, seed)


def compiled_at(
    trace: Trace,
    classifier: str | Classifier,
    memory: str | int | None,
    seed: int,
    *,
    recorded: bool = False,
    nodes: int | str | Nodes = RECORDED,
    kernel: str | None = None,
    relief: Relief | None = None,
    cache: Cache | None = None,
    evidence: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CompiledTrace:
    """A trace with the start state that was asked for, in whatever way: all that replay one come here.

    What linux needs is found by the rules of ``kernel`` and with ``relief`` (None: as `asi-pa compare`);
    ``cache``: where compiled traces are; all else as of `compile_trace`.  Raises ValueError for what cannot
    be.
    """
    size = None if memory is None else as_size(memory)
    if recorded and size is not None:
        raise ValueError(f"memory {memory!r}: the recorded machine has the size that it has")
    if size is not None and not size.pages:
        if evidence is not None:
            raise ValueError(f"memory {size.words}: not together with evidence")
        subject = Subject.of(trace, classifier, seed, nodes, cache)
        return start_at(subject, size, seed, kernel, Relief() if relief is None else relief)
    if size is not None and size.pages < 1 << trace.pageblock_order:
        raise ValueError(f"memory {memory!r}: less than one pageblock")
    rule = Classifier.parse(classifier, seed)
    starts = kept_starts(trace, rule, nodes, cache, evidence=evidence, progress=progress)
    return starts.recorded() if recorded else starts.at(None if size is None else size.pages, seed)


def compile_trace(
    trace: Trace | str | os.PathLike[str],
    classifier: str | Classifier = DEFAULT_CLASSIFIER,
    *,
    memory: str | int | None = None,
    recorded: bool = False,
    seed: int = 0,
    nodes: int | str = "recorded",
    evidence: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CompiledTrace:
    """Compile a trace: its operations, its machine and the start state, settled by following the trace.

    Parameters
    ----------
    trace : a file, the name of a bundled trace or workload, or a Trace
    classifier : rules for sensitivity (docs/use/traces.md)
    memory : size of one zone; None: that of the recorded zone Normal; ``"ample"``: the recorded machine,
        with its zones where they are known; ``"1.05x"``: so many times what linux needs with this seed, by
        the search and with the relief of ``compare``
    recorded : the recorded machine's zones, or ValueError where they are not known
    seed : draws a smaller machine, and what a classifier leaves to chance
    nodes : of the machine: how many, or the CPUs of each, ``"0-3/4-7"``; as recorded (docs/use/nodes.md)
    evidence : the start state is built from the first so many events only (None: all)
    progress : called with (events done, of) while the trace is compiled

    Raises ValueError for what cannot be: events, sizes, both ``recorded`` and ``memory``.
    """
    loaded = trace if isinstance(trace, Trace) else load_trace(trace)
    return compiled_at(
        loaded, classifier, memory, seed, recorded=recorded, nodes=nodes, evidence=evidence, progress=progress
    )
