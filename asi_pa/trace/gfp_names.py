"""The gfp texts that traces print: the flags' names since 2.6.32, and which numbers can be believed.

A text is read by its names, with the numbers of 6.18 (`asi_pa.kernel.gfp`).  Names that a kernel has or had
and the model has no bit for are listed with what they mean to it, most often nothing.  Sources:
include/linux/gfp.h, gfp_types.h, include/trace/events/gfpflags.h and mmflags.h of the kernels named.
"""

from __future__ import annotations

import re

from asi_pa.kernel.gfp import GFP_NAMES

__all__ = ["TRACE_GFP_NAMES", "asked_type", "trace_gfp"]

_N = GFP_NAMES
_RECLAIM = _N["__GFP_DIRECT_RECLAIM"] | _N["__GFP_KSWAPD_RECLAIM"]

#: Names of 6.18 (include/trace/events/mmflags.h), whatever its configuration.
_NOW: dict[str, int] = {
    **GFP_NAMES,
    "GFP_DMA": _N["__GFP_DMA"],
    "GFP_DMA32": _N["__GFP_DMA32"],
    "__GFP_RECLAIM": _RECLAIM,
    # CONFIG_LOCKDEP, CONFIG_KASAN_HW_TAGS: nothing that the allocator decides by
    "__GFP_NOLOCKDEP": 0,
    "__GFP_SKIP_ZERO": 0,
    "__GFP_SKIP_KASAN": 0,
    "__GFP_UNUSED": 0,
}
#: Names that kernels had: 2.6.32 and later.
_ONCE: dict[str, int] = {
    # 4.4 to 6.2: access to reserves for who cannot wait (2973d8229b78 gave that to __GFP_HIGH)
    "__GFP_ATOMIC": _N["__GFP_HIGH"],
    # to 4.13: short-lived and reclaimable
    "GFP_TEMPORARY": _N["GFP_KERNEL"] | _N["__GFP_RECLAIMABLE"],
    # to 4.12; now __GFP_RETRY_MAYFAIL
    "__GFP_REPEAT": _N["__GFP_RETRY_MAYFAIL"],
    "GFP_REPEAT": _N["__GFP_RETRY_MAYFAIL"],
    # to 4.3: may wait; kswapd was woken unless __GFP_NO_KSWAPD
    "__GFP_WAIT": _RECLAIM,
    "GFP_WAIT": _RECLAIM,
    "GFP_IOFS": _N["__GFP_IO"] | _N["__GFP_FS"],
    "__GFP_NO_KSWAPD": 0,
    "GFP_NO_KSWAPD": 0,
    # to 4.14: debugging, and whether a page is cache-hot
    "__GFP_NOTRACK": 0,
    "GFP_NOTRACK": 0,
    "__GFP_NOTRACK_FALSE_POSITIVE": 0,
    "__GFP_COLD": 0,
    "GFP_COLD": 0,
    # to 4.12: accounting of NUMA hits
    "__GFP_OTHER_NODE": 0,
    "GFP_OTHER_NODE": 0,
    # 3.8 to 4.5: memory cgroups' accounting
    "__GFP_KMEMCG": _N["__GFP_ACCOUNT"],
    "GFP_KMEMCG": _N["__GFP_ACCOUNT"],
    "__GFP_NOACCOUNT": 0,
    # 5.18 to 6.4, KASAN_HW_TAGS
    "__GFP_SKIP_KASAN_POISON": 0,
    "__GFP_SKIP_KASAN_UNPOISON": 0,
    # Android and vendors: movable pages that may use CMA; all may here
    "__GFP_CMA": 0,
    # to 4.7 flags were printed without their underscores
    **{f"GFP_{name}": _N[f"__GFP_{name}"] for name in (
        "HIGH", "IO", "FS", "NOWARN", "NOFAIL", "NORETRY", "COMP", "ZERO", "NOMEMALLOC", "MEMALLOC",
        "HARDWALL", "THISNODE", "RECLAIMABLE", "MOVABLE", "HIGHMEM", "WRITE")},
}  # fmt: skip
TRACE_GFP_NAMES: dict[str, int] = {**_ONCE, **_NOW}

#: Every bit that each kernel since 5.1 has a name for: one that prints names never leaves them as a number.
_NAMED = 0x7FFDFF
_MOBILITY = _N["__GFP_MOVABLE"] | _N["__GFP_RECLAIMABLE"]
_IO_FS = _N["__GFP_IO"] | _N["__GFP_FS"]
#: How kernels before 5.1 number GFP_KERNEL: what a mask that waits or does I/O has set of its upper bits.
_ERAS: tuple[tuple[int, str], ...] = (
    (0x24000C0, "4.4 to 4.12"),
    (0x14000C0, "4.13 and 4.14"),
    (0x6000C0, "4.15 to 5.0"),
    (0xD0, "2.6.32 to 4.3"),
)
_HOW = "print the flags' names: ftrace without `-o fields`, trace-cmd without -R, perf script's text"


def trace_gfp(text: str) -> int:
    """The mask of a gfp text, in the numbers of 6.18.

    ``GFP_KERNEL|__GFP_ZERO|0x2000000``, ``0x140cca`` or ``none``.  Raises ValueError for a name that no
    kernel has, and for a number that another kernel's numbering shows in.
    """
    if text == "none":
        return 0
    mask = number = 0
    named = False
    for word in text.split("|"):
        if word in TRACE_GFP_NAMES:
            mask |= TRACE_GFP_NAMES[word]
            named = True
        elif re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", word) and int(word, 0) < 1 << 32:
            number |= int(word, 0)
        else:
            raise ValueError(
                f"unknown gfp flag {word!r}: no name of Linux 2.6.32 to 7.2; if it does not matter to the "
                f"page "
                f"allocator, take it out: sed 's/|{word}//; s/{word}|//'"
            )
    if named and number & _NAMED:
        raise ValueError(
            f"gfp flags {text!r}: 0x{number & _NAMED:x} has a name since 5.1, so another kernel printed this"
        )
    if not named:
        _believable(number)
    return mask | number


def _believable(mask: int) -> None:
    """ValueError for a mask of numbers alone that no kernel since 5.1 gives."""
    reclaims = mask & _RECLAIM
    quiet = _N["__GFP_NOMEMALLOC"] | _N["__GFP_NOWARN"]
    # I/O without any reclaim: only what would rather fail does that (GFP_TRANSHUGE_LIGHT, slabs)
    if mask & _MOBILITY == _MOBILITY or (mask & _IO_FS == _IO_FS and not reclaims and not mask & quiet):
        era = next((era for wanted, era in _ERAS if mask & wanted == wanted), "before 5.1")
        raise ValueError(
            f"gfp mask 0x{mask:x} is numbered as by Linux {era}; read are the numbers since 5.1: {_HOW}"
        )


def asked_type(mask: int) -> int:
    """The migratetype a mask asks for; -1 where it asks for two (include/linux/gfp.h gfp_migratetype)."""
    both = (mask >> 3) & 3
    return -1 if both == 3 else both
