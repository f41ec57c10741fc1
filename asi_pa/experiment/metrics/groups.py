"""The groups that entries stand in, in the order of the tables and of the document."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True)
class Group:
    """Entries that stand together."""

    title: str
    """Of the table's part."""
    short: str
    """The same where there is little room."""
    heading: str
    """In docs/use/metrics.md."""
    text: str = ""
    """What docs/use/metrics.md says of all of them."""


#: Groups in the order of the tables and of the document.
GROUPS: dict[str, Group] = {
    "work": Group("work", "work", "Work"),
    "failures": Group("failed requests", "failures", "Failed requests"),
    "relief": Group(
        "relief",
        "relief",
        "Relief",
        """
All optional. When memory is short requests that may block reclaim and compact in `asi-pa compare`: what can
be reclaimed are the recorded machine's own file pages, in an order drawn with the seed (the named workloads
begin with none). `--reclaim SIZE` (`reclaim=` in Python) declares so much page cache instead, `--no-relief`
lets nothing be reclaimed or compacted. `asi_pa.replay` relieves only where it is told to, and `asi-pa
starvation` compacts in two of its columns.
What needs nobody's leave happens in every replay: kswapd ends boosts, and before a request that may
block fails, the per-CPU lists are drained and the HIGHATOMIC reserve is used up
(`__alloc_pages_direct_reclaim()`, `should_reclaim_retry()`, mm/page_alloc.c).

    asi-pa compare redis --memory 860M --seeds 1 --reclaim 64M --full
""",
    ),
    "kinds": Group("sensitivity", "kinds", "Sensitivity"),
    "physmap": Group("physmap", "physmap", "Physmap"),
    "flushes": Group("TLB flushes", "flushes", "TLB flushes"),
    "fragmentation": Group(
        "fragmentation",
        "fragm.",
        "Fragmentation",
        """
Let n_o be the number of free blocks of order o, F = sum of n_o 2^o, B = sum of n_o, and
S_k = sum over o >= k of n_o 2^(o-k). All divisions round down.
""",
    ),
    "nodes": Group(
        "nodes",
        "nodes",
        "Nodes",
        """
All optional: only machines of several nodes have them ([nodes.md](nodes.md)). Each request that got its pages
counts once, as zone_statistics() (mm/page_alloc.c) has it in `/proc/vmstat`, also where a pool gave them;
refills of a pool do not count.

    asi-pa compare redis --nodes 2 --memory 900M --seeds 1 --full
""",
    ),
    "pool": Group(
        "pool",
        "pool",
        "Pool",
        """
After M. Rapoport's prototype, msgid 20230308094106.227365-1-rppt@kernel.org, with the kinds swapped: a
pool of nonsensitive pages beside an allocator whose memory is all sensitive. 0 for every other design.
""",
    ),
    "speed": Group(
        "speed of the model",
        "speed",
        "Speed of the model",
        """
These are the only measured times in a result. They belong to the model on the machine that ran it, and
say nothing about a kernel.
""",
    ),
}
