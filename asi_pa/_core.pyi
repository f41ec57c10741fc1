"""The zone: frames, free lists, fallbacks, watermarks; for other compiled modules only, but for ``Zone``."""

from typing_extensions import disjoint_base

from asi_pa.kernel.spec import ZoneSpec

@disjoint_base
class Zone:
    """One zone of the engine; built by ``Machine``.  Holds the arrays."""

    @property
    def spec(self) -> ZoneSpec: ...
