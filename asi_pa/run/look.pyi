from typing import Any

from asi_pa.engine.machine import Machine

def request(machine: Machine, order: int, gfp: int, cpu: int = 0) -> dict[str, Any]: ...
def watermark(
    machine: Machine, zone: int, order: int, gfp: int, cpu: int = 0, slow: bool = False
) -> dict[str, Any]: ...

__test__: dict[str, Any]
