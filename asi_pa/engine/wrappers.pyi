"""Designs that wrap the allocator: what all of them do, and the table of those there are.

For other compiled modules only.
"""

from enum import IntEnum

class Wrapper(IntEnum):
    """Of Design.wrapper."""

    WRAP_NONE = 0
    WRAP_PER_PAGE = 1
    WRAP_POOL = 2
    WRAP_QUEUE = 3
