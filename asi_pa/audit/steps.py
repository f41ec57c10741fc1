"""Sequences of operations as dicts, as sentences, and as a Python script that the public API runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.audit.scopes import Scope
from asi_pa.audit.words import OPERATIONS
from asi_pa.designs import Design
from asi_pa.verify.codes import Code

__all__ = ["as_dicts", "count_operations", "sentence"]

Step = dict[str, Any]


def count_operations(steps: npt.NDArray[np.void]) -> int:
    """Operations of a sequence, those of another CPU in windows included."""
    return len(steps) + int(np.count_nonzero(steps["inner_code"]))


def as_dicts(
    steps: npt.NDArray[np.void], results: npt.NDArray[np.int64], scope: Scope, design: Design
) -> list[Step]:
    """The steps of a search (STEP_DTYPE) with their results, one dict each.

    Keys: ``op`` and what it needs of ``order``, ``gfp`` (a number), ``request`` (in words), ``pfn``,
    ``pages``, ``cpu``, ``freetype``, ``of`` (the step, from 1, that allocated what is freed), ``result``
    (of the method of Machine), and ``meanwhile``: what another CPU does in a ``window`` of the step, from 1.
    """
    out: list[Step] = []
    owner: dict[int, int] = {}
    for number, (row, result) in enumerate(zip(steps, results, strict=True), 1):
        step = _one(row, "", int(result), scope, design, owner, number)
        if row["inner_code"]:
            step["meanwhile"] = _one(row, "inner_", None, scope, design, owner, number)
            step["meanwhile"]["window"] = int(row["inner_at"])
        out.append(step)
    return out


def _one(
    row: np.void,
    part: str,
    result: int | None,
    scope: Scope,
    design: Design,
    owner: dict[int, int],
    number: int,
) -> Step:
    """One operation; ``owner`` says which step allocated a pfn, and is brought up to date."""

    def get(name: str) -> int:
        return int(row[part + name])

    op = OPERATIONS[Code(get("code"))]
    step: Step = {"op": op}
    if op in ("compact_memory", "direct_compact"):
        owner.clear()  # pages were moved: what is freed later is told by its pfn
    if op in ("alloc", "direct_compact"):
        request = scope.requests[get("which")]
        step |= {"order": get("order"), "gfp": request.gfp, "request": request.words, "cpu": get("cpu")}
        if result is not None and result >= 0:
            owner[result] = number
    elif op == "free":
        step |= {"pfn": get("frame"), "order": get("order"), "cpu": get("cpu")}
        if get("frame") in owner:
            step["of"] = owner.pop(get("frame"))
    elif op in ("drain", "tick", "run_queue", "compact_memory"):
        step["cpu"] = get("cpu")
    elif op == "shrink_pool":
        step |= {"pages": get("n"), "cpu": get("cpu")}
    elif op in ("isolate", "unisolate", "alloc_contig_range", "free_contig_range"):
        step |= {"pfn": get("frame"), "pages": get("n")}
        if op == "isolate":
            step["mode"] = get("order")
        elif op == "alloc_contig_range":
            which = get("which") - len(scope.requests)
            words = ("protected", "unprotected")[which]
            step |= {"gfp": scope.contig[which], "request": f"{words}, blocking", "cma": bool(get("order"))}
            if result == 0:
                owner |= dict.fromkeys(range(get("frame"), get("frame") + get("n")), number)
    elif op == "unreserve_highatomic":
        step |= {"freetype": get("which"), "name": design.freetypes[get("which")].name}
    elif op == "take_and_putback":
        step |= {"freetype": get("which"), "name": design.freetypes[get("which")].name, "order": get("order")}
    if result is not None and op not in ("free", "drain", "unisolate", "free_contig_range", "compact_memory"):
        step["result"] = result
    return step


# ---------------------------------------------------------------- for people


def sentence(step: Step, cpus: int = 1) -> str:
    """One step as a line: what is asked, and what came of it."""
    op = step["op"]
    result = step.get("result")
    if op == "alloc":
        text = f"allocate order {step['order']}, {step['request']}"
    elif op == "direct_compact":
        text = f"compact for order {step['order']}, {step['request']}"
    elif op == "compact_memory":
        text = "compact the zone"
    elif op == "free":
        text = f"free order {step['order']} at pfn {step['pfn']}"
        if "of" in step:
            text += f", of step {step['of']}"
    elif op == "drain":
        text = "drain the pcp lists"
    elif op == "tick":
        text = "decay of the pcp lists"
    elif op == "isolate":
        text = f"isolate pages {_range(step)}"
    elif op == "unisolate":
        text = f"undo the isolation of {_range(step)}"
    elif op == "alloc_contig_range":
        text = f"allocate the contiguous range {_range(step)}, {step['request']}"
    elif op == "free_contig_range":
        text = f"free the contiguous range {_range(step)}"
    elif op == "unreserve_highatomic":
        text = f"unreserve a HIGHATOMIC block for {step['name']}"
    elif op == "take_and_putback":
        text = f"page reporting takes and puts back the first {step['name']} block of order {step['order']}"
    elif op == "shrink_pool":
        text = f"shrink the pool by {step['pages']} page"
    else:
        text = "the free queue's worker runs"
    if cpus > 1 and "cpu" in step:
        text = f"CPU {step['cpu']}: {text}"
    if op in ("alloc", "direct_compact") and result is not None:
        text += f" -> pfn {result}" if result >= 0 else " -> fails"
    elif op in ("isolate", "alloc_contig_range") and result:
        text += f" -> {result}"
    if "meanwhile" in step:
        text += f"; in its window {step['meanwhile']['window']} another CPU: {sentence(step['meanwhile'])}"
    return text


def _range(step: Step) -> str:
    return f"[{step['pfn']}, {step['pfn'] + step['pages']})"


# ---------------------------------------------------------------- for machines


def call(step: Step, names: Sequence[str | None]) -> str:
    """The step as a call of Machine ``m``; ``names[i]`` is the variable that step i + 1 left its pfn in."""
    op = step["op"]
    cpu = f", cpu={step['cpu']}" if step.get("cpu") else ""
    if op in ("alloc", "direct_compact"):
        return f"m.{op}({step['order']}, 0x{step['gfp']:x}{cpu})"
    if op == "free":
        name = names[step["of"] - 1] if "of" in step else None
        return f"m.free({name or step['pfn']}, {step['order']}{cpu})"
    if op == "compact_memory":
        return f"m.compact_memory({cpu[2:]})"
    if op in ("drain", "tick", "run_queue"):
        return f"m.{op}({step['cpu']})"
    if op == "shrink_pool":
        return f"m.shrink_pool({step['pages']}{cpu})"
    span = f"{step.get('pfn')}, {step.get('pfn', 0) + step.get('pages', 0)}"
    if op == "isolate":
        return f"m.isolate({span}, mode={step['mode']})"
    if op == "unisolate":
        return f"m.unisolate({span})"
    if op == "alloc_contig_range":
        return f"m.alloc_contig_range({span}, cma={step['cma']}, gfp=0x{step['gfp']:x})"
    if op == "free_contig_range":
        return f"m.free_contig_range({step['pfn']}, {step['pages']})"
    if op == "unreserve_highatomic":
        return f"m.unreserve_highatomic({step['freetype']}, True)"
    return f"m.take_and_putback({step['freetype']}, {step['order']})"
