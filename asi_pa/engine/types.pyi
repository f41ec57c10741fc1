"""The words of a Design as the engine's numbers."""

from enum import IntEnum

class Flips(IntEnum):
    """Of Design.flips."""

    FLIPS_NONE = 0
    FLIPS_MARCH = 1
    FLIPS_SEPTEMBER = 2

class Zeroing(IntEnum):
    """Of Design.zeroing."""

    ZERO_NONE = 0
    ZERO_LOCKED = 1
    ZERO_FLIP = 2
    ZERO_DIRTY = 3
    ZERO_ALLOC = 4
    ZERO_MAPPED = 5

class Compaction(IntEnum):
    """Of Design.compaction."""

    COMPACTS_ORDER = 0
    COMPACTS_UNMAPPED = 1
    COMPACTS_BOTH = 2

class Waits(IntEnum):
    """Of Design.may_wait."""

    WAITS_POSTED = 0
    WAITS_NONE = 1
    WAITS_BLOCK = 2
    WAITS_ANY = 3
    WAITS_SENSITIVE = 4
    WAITS_NONSENSITIVE = 5

class Refill(IntEnum):
    """Of Design.refill_unmaps."""

    REFILL_CHUNK = 0
    REFILL_REQUEST = 1
