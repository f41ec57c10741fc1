"""The Linux page allocator as an exact model, and what address space isolation (ASI) does to it.

Names are imported on first use, so that ``import asi_pa`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from asi_pa.allocator import Allocator, MemoryBlock, OutOfMemoryError, RangeBusyError, Statistics, replay
    from asi_pa.designs import DESIGNS, Design
    from asi_pa.experiment import compare
    from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, describe_gfp, parse_gfp
    from asi_pa.kernel.sizing import parse_size, single_zone
    from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
    from asi_pa.kernel.versions import KERNELS, Kernel
    from asi_pa.run.start import compile_trace
    from asi_pa.run.validate import validate
    from asi_pa.trace import bundled_traces, load_trace

#: public name -> the module that has it
_HOME = {
    "Allocator": "allocator",
    "DESIGNS": "designs",
    "Design": "designs",
    "GFP_ATOMIC": "kernel.gfp",
    "GFP_HIGHUSER_MOVABLE": "kernel.gfp",
    "GFP_KERNEL": "kernel.gfp",
    "KERNELS": "kernel.versions",
    "Kernel": "kernel.versions",
    "MachineSpec": "kernel.spec",
    "MemoryBlock": "allocator",
    "OutOfMemoryError": "allocator",
    "PcpSpec": "kernel.spec",
    "RangeBusyError": "allocator",
    "Statistics": "allocator",
    "ZoneSpec": "kernel.spec",
    "bundled_traces": "trace",
    "compare": "experiment",
    "compile_trace": "run.start",
    "describe_gfp": "kernel.gfp",
    "load_trace": "trace",
    "parse_gfp": "kernel.gfp",
    "parse_size": "kernel.sizing",
    "replay": "allocator",
    "single_zone": "kernel.sizing",
    "validate": "run.validate",
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
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"asi_pa.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'asi_pa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
