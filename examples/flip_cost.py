"""What do flips cost?  The same requests through three designs, on a machine with 8 CPUs.

A kernel that takes unmapped user memory and mapped kernel memory in turns has to change pageblocks from one
kind to the other.  The script counts what that does to page tables and TLBs.
"""

from asi_pa.allocator import Allocator
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, parse_gfp

USER = GFP_HIGHUSER_MOVABLE | parse_gfp("__GFP_SENSITIVE")
ROUNDS = 8


def alternate(design: str) -> dict[str, float]:
    """Fills most of 256 MiB with user pages, then with kernel pages, and so on; counts per 1000 requests."""
    allocator = Allocator("256M", design, cpus=8, single_zone=True)
    pages = allocator.spec.zones[0].spanned * 3 // 4
    for i in range(ROUNDS):
        got = allocator.alloc_pages_bulk(0, GFP_KERNEL if i % 2 else USER, pages)
        allocator.free_pages_bulk(got)
        allocator.drain()
    s = allocator.statistics()
    if s.leaked_pages or s.uncleared_pages or allocator.verify():
        raise SystemExit(f"{design}: {s.leaked_pages} pages leaked, {allocator.verify()}")
    per_1000 = 1000 / s.allocations
    return {
        "flips": (s.flips_s2n + s.flips_n2s) * per_1000,
        "leaf writes": sum(map(sum, s.physmap.leaf_writes)) * per_1000,
        "TLB flushes": s.tlb_flushes * per_1000,
        "IPIs": s.physmap.ipis * per_1000,
        "MiB zeroed": s.bytes_zeroed / 2**20 * per_1000,
        "failures": s.failures * per_1000,
    }


def main() -> None:
    """Prints a table, a column for each design."""
    designs = ("per-page", "pool", "migratetype")
    columns = {design: alternate(design) for design in designs}
    print("per 1000 requests" + "".join(f"{design:>14}" for design in designs))
    for row in columns[designs[0]]:
        print(f"{row:<17}" + "".join(f"{columns[design][row]:14.2f}" for design in designs))


if __name__ == "__main__":
    main()
