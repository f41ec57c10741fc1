"""The whole public API in one script, as a caller with a strict type checker writes it.

mypy --strict and pyright pass on it (``make lint-types``); tests/api/test_api.py runs it, and holds it to
naming every public name.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import asi_pa

GFP: int = asi_pa.GFP_HIGHUSER_MOVABLE | asi_pa.parse_gfp("__GFP_SENSITIVE")


class Own(asi_pa.Design):
    """A design with a hook."""

    def unmap_ahead(self, view: asi_pa.ZoneView) -> int:
        """Nothing is unmapped before somebody asks."""
        return 0


def allocator() -> asi_pa.Statistics:
    """Machines, calls, refusals."""
    zone: asi_pa.ZoneSpec = asi_pa.single_zone("64M").zones[0]
    pcp: asi_pa.PcpSpec | None = zone.pcp
    spec = asi_pa.MachineSpec(zones=(zone,), cpus=1)
    kernel: asi_pa.Kernel = asi_pa.KERNELS["7.2"]
    a = asi_pa.Allocator(spec, "migratetype", kernel.version)
    pfn: int = a.alloc_pages(0, "GFP_KERNEL|__GFP_ZERO")
    a.free_pages(pfn)
    a.free_pages_bulk(a.alloc_pages_bulk(0, asi_pa.GFP_ATOMIC, 8))
    try:
        while True:
            a.alloc_pages(10, GFP)
    except asi_pa.OutOfMemoryError as error:
        print(error.order, asi_pa.describe_gfp(error.gfp), error.cause, pcp is None)
    try:
        a.alloc_contig_range(zone.start_pfn, zone.start_pfn + 512, asi_pa.GFP_KERNEL)
    except asi_pa.RangeBusyError as busy:
        print(busy.pfn)
    blocks: list[asi_pa.MemoryBlock] = a.memory_blocks()
    print(len(blocks), asi_pa.parse_size("64M"))
    return a.statistics()


def replays(name: str) -> asi_pa.ReplayResult:
    """Traces, compiled and replayed."""
    trace: asi_pa.Trace = asi_pa.load_trace(name)
    compiled: asi_pa.CompiledTrace = asi_pa.compile_trace(trace, memory="ample")
    design: asi_pa.Design = Own.based_on(asi_pa.DESIGNS["migratetype"], name="migratetype/own")
    texts: asi_pa.ProcTexts = asi_pa.proc_texts(trace, design, at=0, memory="ample")
    assert texts.operation == 0
    assert texts.buddyinfo.startswith("Node")
    found = asi_pa.replay(compiled, design, samples=3)
    share: float | None = found.value("restricted_2m_share")
    flushes: int = found.metrics["tlb_flushes"]
    print(share, flushes, found.series.flushes.sum(), found.blockmap.legend, sorted(asi_pa.bundled_traces()))
    return found


def results(name: str) -> list[str]:
    """Every function that returns a result, and every form a result takes."""
    compared: asi_pa.CompareResult = asi_pa.compare(name, "migratetype", quick=True, samples=3)
    run = compared.runs[0]["migratetype"]
    print(compared.nodes, [node.numa_miss for node in run.nodes])
    print(run.verify, compared.verdict, [row.against_other for row in compared.measures][:1])
    starved: asi_pa.StarveResult = asi_pa.starve("linux", "32M")
    audited: asi_pa.AuditResult = asi_pa.audit_design("migratetype", depth=1, only="smallest")
    print(starved.rows[0].fresh, audited.sound, [hole.words for hole in audited.findings])
    return [
        each.to_markdown() + each.to_latex() + repr(each) + str(sorted(each.to_dict()))
        for each in (compared, starved, audited, compared.replays)
    ]


def swept(folder: str) -> asi_pa.SweepResult:
    """Many points at once, kept in a folder and read from it again."""
    found: asi_pa.SweepResult = asi_pa.sweep(
        "fresh:32M", ["linux", "pool"], memory=["ample", "48M"], seeds=2, folder=folder, executor="here"
    )
    again = asi_pa.load_sweep(folder)
    print(again.complete, [str(each) for each in again.missing], again.summary("failures").rows[0])
    return found


def validated(name: str) -> float:
    """How near the model is to a recorded machine."""
    found: asi_pa.ValidateResult = asi_pa.validate(name, restarts=0)
    print(found, found.states("recorded").free.shape)
    return found.end_distance


def main() -> None:
    """All of it."""
    print(asi_pa.__version__, allocator().pages_free)
    print(replays("stress:32M").to_pandas().shape, replays("stress:32M").to_polars().shape)
    print(*results("stress:32M"), sep="\n")
    with TemporaryDirectory() as folder:
        print(swept(folder).to_pandas().groupby("design").failures.max())


if __name__ == "__main__":
    main()
