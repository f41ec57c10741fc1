"""The zone: frames, free lists, fallbacks, watermarks; for other compiled modules only, but for ``Zone``."""

from enum import IntEnum

from typing_extensions import disjoint_base

from asi_pa.kernel.spec import ZoneSpec

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

class Compaction(IntEnum):
    """Of Design.compaction."""

    COMPACTS_ORDER = 0
    COMPACTS_UNMAPPED = 1
    COMPACTS_BOTH = 2

@disjoint_base
class Zone:
    """One zone of the engine; built by ``Machine``.  Holds the arrays."""

    @property
    def spec(self) -> ZoneSpec: ...
