"""Designs that wrap the allocator: per-page mapping, RFCv2's free queue, the separate pool of 2023.

For other compiled modules only.
"""

from enum import IntEnum

class Wrapper(IntEnum):
    """Of Design.wrapper."""

    WRAP_NONE = 0
    WRAP_PER_PAGE = 1
    WRAP_POOL = 2
    WRAP_QUEUE = 3
