"""The two engines, for tests that hold for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec

from .machine import Machine

__all__ = ["ENGINES", "Make", "load", "small_spec"]

#: Machine(spec, design, kernel) of either engine.  Any: they share an interface, not a class.
Make = Callable[..., Any]

#: For ``pytest.mark.parametrize("engine", ENGINES)`` or a fixture's params.
ENGINES = ("twin", "cython")


def load(engine: str) -> Make:
    """The machine class of an engine; skips the test where the compiled one was not built."""
    if engine == "twin":
        return Machine
    module = pytest.importorskip("asi_pa.engine.machine", reason="the extension modules are not built")
    make: Make = module.Machine
    return make


def small_spec(
    *,
    pages: int = 128,
    start: int = 1024,
    pageblock_order: int = 3,
    max_page_order: int = 4,
    pcp: PcpSpec | None = None,
    cpus: int = 1,
    boost_factor: int = 0,
    nofragment: bool = False,
    defrag_mode: bool = False,
    **zone: Any,
) -> MachineSpec:
    """One small Normal zone; further keywords go to its ZoneSpec."""
    return MachineSpec(
        zones=(ZoneSpec(start_pfn=start, spanned=pages, pcp=pcp, **zone),),
        cpus=cpus,
        pageblock_order=pageblock_order,
        max_page_order=max_page_order,
        watermark_boost_factor=boost_factor,
        nofragment=nofragment,
        defrag_mode=defrag_mode,
    )
