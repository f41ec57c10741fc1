"""The Linux page allocator as an exact model, and what address space isolation (ASI) does to it.

Names are imported on first use, so that ``import asi_pa`` itself costs next to nothing.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from asi_pa.allocator import Allocator, MemoryBlock, OutOfMemoryError, RangeBusyError, Statistics
    from asi_pa.designs import DESIGNS, Design
    from asi_pa.engine.hooks import ZoneView
    from asi_pa.experiment.points import compile_trace
    from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, describe_gfp, parse_gfp
    from asi_pa.kernel.sizing import parse_size, single_zone
    from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
    from asi_pa.kernel.versions import KERNELS, Kernel
    from asi_pa.results import (
        AuditResult,
        CompareResult,
        ProcTexts,
        ReplayResult,
        StarveResult,
        ValidateResult,
        audit_design,
        compare,
        proc_texts,
        replay,
        starve,
        validate,
    )
    from asi_pa.sweeps import SweepResult, load_sweep, sweep
    from asi_pa.trace import CompiledTrace, Trace, bundled_traces, load_trace

#: public name -> the module that has it
_HOME = {
    "Allocator": "allocator",
    "AuditResult": "results",
    "CompareResult": "results",
    "CompiledTrace": "trace",
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
    "ProcTexts": "results",
    "RangeBusyError": "allocator",
    "ReplayResult": "results",
    "StarveResult": "results",
    "Statistics": "allocator",
    "SweepResult": "sweeps",
    "Trace": "trace",
    "ValidateResult": "results",
    "ZoneSpec": "kernel.spec",
    "ZoneView": "engine.hooks",
    "audit_design": "results",
    "bundled_traces": "trace",
    "compare": "results",
    "compile_trace": "experiment.points",
    "describe_gfp": "kernel.gfp",
    "load_sweep": "sweeps",
    "load_trace": "trace",
    "parse_gfp": "kernel.gfp",
    "parse_size": "kernel.sizing",
    "proc_texts": "results",
    "replay": "results",
    "single_zone": "kernel.sizing",
    "starve": "results",
    "sweep": "sweeps",
    "validate": "results",
}

__all__ = [
    "DESIGNS",
    "GFP_ATOMIC",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "KERNELS",
    "Allocator",
    "AuditResult",
    "CompareResult",
    "CompiledTrace",
    "Design",
    "Kernel",
    "MachineSpec",
    "MemoryBlock",
    "OutOfMemoryError",
    "PcpSpec",
    "ProcTexts",
    "RangeBusyError",
    "ReplayResult",
    "StarveResult",
    "Statistics",
    "SweepResult",
    "Trace",
    "ValidateResult",
    "ZoneSpec",
    "ZoneView",
    "__version__",
    "audit_design",
    "bundled_traces",
    "compare",
    "compile_trace",
    "describe_gfp",
    "load_sweep",
    "load_trace",
    "parse_gfp",
    "parse_size",
    "proc_texts",
    "replay",
    "single_zone",
    "starve",
    "sweep",
    "validate",
]


#: module of 0.1 that scripts import -> where it is (CHANGELOG.md has the private ones, too)
_MOVED = {
    "claims": "experiment.claims",
    "gfp": "kernel.gfp",
    "layout": "kernel.layout",
    "machine": "kernel.spec",
    "metrics": "kernel.indexes",
    "numa": "kernel.numa",
    "procfs": "kernel.procfs",
    "sizing": "kernel.sizing",
}


class _Moved:
    """Finds a module under the name that it had: ``import asi_pa.procfs`` gives `asi_pa.kernel.procfs`, and
    says so."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        return ModuleSpec(name, _Moved) if package == __name__ and module in _MOVED else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = _moved(name.rpartition(".")[2])


def _moved(name: str) -> ModuleType:
    where = f"{__name__}.{_MOVED[name]}"
    warnings.warn(f"{__name__}.{name} is {where} now", DeprecationWarning, stacklevel=3)
    return import_module(where)


if _Moved not in sys.meta_path:
    sys.meta_path.append(_Moved)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"asi_pa.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MOVED:
        return _moved(name)
    raise AttributeError(f"module 'asi_pa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
