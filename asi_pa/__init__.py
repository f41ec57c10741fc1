"""The Linux page allocator as an exact model, and what address space isolation (ASI) does to it.

Names are imported on first use, so that ``import asi_pa`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asi_pa.allocator import Allocator, MemoryBlock, OutOfMemoryError, RangeBusyError, Statistics, replay
    from asi_pa.designs import DESIGNS, Design
    from asi_pa.experiment import compare
    from asi_pa.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, describe_gfp, parse_gfp
    from asi_pa.kernel import KERNELS, Kernel
    from asi_pa.machine import MachineSpec, PcpSpec, ZoneSpec
    from asi_pa.sizing import parse_size, single_zone
    from asi_pa.trace import bundled_traces, compile_trace, load_trace

#: public name -> the module that has it
_HOME = {
    "Allocator": "allocator",
    "DESIGNS": "designs",
    "Design": "designs",
    "GFP_ATOMIC": "gfp",
    "GFP_HIGHUSER_MOVABLE": "gfp",
    "GFP_KERNEL": "gfp",
    "KERNELS": "kernel",
    "Kernel": "kernel",
    "MachineSpec": "machine",
    "MemoryBlock": "allocator",
    "OutOfMemoryError": "allocator",
    "PcpSpec": "machine",
    "RangeBusyError": "allocator",
    "Statistics": "allocator",
    "ZoneSpec": "machine",
    "bundled_traces": "trace",
    "compare": "experiment",
    "compile_trace": "trace",
    "describe_gfp": "gfp",
    "load_trace": "trace",
    "parse_gfp": "gfp",
    "parse_size": "sizing",
    "replay": "allocator",
    "single_zone": "sizing",
}

__all__ = [
    "DESIGNS",
    "GFP_ATOMIC",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "KERNELS",
    "Allocator",
    "Design",
    "Kernel",
    "MachineSpec",
    "MemoryBlock",
    "OutOfMemoryError",
    "PcpSpec",
    "RangeBusyError",
    "Statistics",
    "ZoneSpec",
    "__version__",
    "bundled_traces",
    "compare",
    "compile_trace",
    "describe_gfp",
    "load_trace",
    "parse_gfp",
    "parse_size",
    "replay",
    "single_zone",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"asi_pa.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'asi_pa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
