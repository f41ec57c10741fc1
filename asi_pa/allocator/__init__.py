"""The allocator to call from Python, with its statistics and errors.  docs/use/api.md is its tour.

from asi_pa import Allocator, OutOfMemoryError
allocator = Allocator("4G", "migratetype", cpus=4)
pfn = allocator.alloc_pages(0, "GFP_KERNEL")
allocator.free_pages(pfn)
"""

from asi_pa.allocator.allocator import Allocator
from asi_pa.allocator.hotplug import MemoryBlock
from asi_pa.allocator.refusals import OutOfMemoryError, RangeBusyError
from asi_pa.allocator.statistics import Statistics

__all__ = ["Allocator", "MemoryBlock", "OutOfMemoryError", "RangeBusyError", "Statistics"]
