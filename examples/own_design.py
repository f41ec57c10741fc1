"""A design of one's own, compared with the one it comes from.

A design is a table.  This one changes two fields of a built-in, runs a trace recorded from a real kernel
through both on a machine that is too small for it, and shows where they differ.
"""

from dataclasses import replace

from asi_pa import DESIGNS, compile_trace, replay

#: Pageblocks are unmapped while there are fewer than 512 free unmapped pages, until there are 2048: before
#: anybody has to wait for the flush.
MINE = replace(
    DESIGNS["migratetype"],
    name="mine",
    title="blocks unmapped ahead of need",
    source=("examples/own_design.py",),
    unmap_low=512,
    unmap_high=2048,
)
METRICS = (
    "failures",
    "flips_s2n",
    "flips_n2s",
    "tlb_flushes_full",
    "tlb_flushes_per_1000_able",
    "extfrag_events",
    "stranded_pages_max",
    "leaked_pages",
    "uncleared_pages",
)


def main() -> None:
    """Prints the two designs side by side."""
    trace = compile_trace("redis", memory="768M")
    theirs, mine = (replay(trace, design, samples=2).metrics for design in ("migratetype", MINE))
    print(f"{'redis, 768M':<22}{'migratetype':>16}{MINE.name:>16}")
    for name in METRICS:
        print(f"{name:<22}{theirs[name]:>16.6g}{mine[name]:>16.6g}")


if __name__ == "__main__":
    main()
