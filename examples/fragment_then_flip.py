"""When do flips starve?  Fragmented user memory leaves no whole pageblock for the kernel.

User memory fills a machine in 64 KiB chunks, then three of every four are freed (a question that the
reviewers of __GFP_UNMAPPED asked).  How much mapped memory does the kernel get, and why does it end?
"""

import numpy as np

from asi_pa.allocator import Allocator
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, parse_gfp

USER = GFP_HIGHUSER_MOVABLE | parse_gfp("__GFP_SENSITIVE")
CHUNK = 4  # order of 64 KiB
MIB = 256  # pages


def kernel_memory(allocator: Allocator) -> int:
    """MiB that GFP_KERNEL requests get until one fails."""
    return len(allocator.alloc_pages_bulk(0, GFP_KERNEL, allocator.spec.zones[0].spanned)) // MIB


def main() -> None:
    """Prints what each design gets, fresh and fragmented."""
    print(f"{'':<12}{'fresh':>10}{'fragmented':>12}   of free, MiB   unusable at 2M   why it ended")
    for design in ("linux", "migratetype", "freetype"):
        fresh = kernel_memory(Allocator("512M", design, single_zone=True, pcp=False))
        allocator = Allocator("512M", design, single_zone=True, pcp=False)
        chunks = allocator.alloc_pages_bulk(CHUNK, USER, 512 * MIB * 9 // 10 >> CHUNK)
        keep = np.arange(len(chunks)) % 4 == 0
        allocator.free_pages_bulk(chunks[~keep], CHUNK)
        free = allocator.statistics().pages_free // MIB
        unusable = allocator.unusable_index()[9] / 1000
        got = kernel_memory(allocator)
        causes = allocator.statistics().failures_by_cause
        why = ", ".join(cause for cause, n in causes.items() if n)
        print(f"{design:<12}{fresh:>10}{got:>12}{free:>15}{unusable:>17.3f}   {why}")
        if allocator.verify():
            raise SystemExit(allocator.verify())


if __name__ == "__main__":
    main()
