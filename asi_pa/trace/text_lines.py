"""Lines of trace text that are none of our events: remarks of the tools, losses, other events, neighbouring
forms.

Whatever is not listed here is an error that names the line.  Forms that are one option away from a readable
one are errors too; they say which form it is and what to print instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Notes", "other_line"]


@dataclass
class Notes:
    """What was counted beside the events."""

    lost: int = 0
    """Events that the recorder says it lost."""
    lost_places: int = 0
    """Places where it says that events were lost and not how many."""
    other_events: int = 0
    remarks: int = 0
    """Lines of the tools about themselves."""
    stacks: int = 0
    """Headers of call chains; their frames are counted by the scanner."""


_PREFIX = re.compile(rb"^\s*(?:>\s*)+|^\d+[:-](?=\s|#|$)|^\S+?:\d+:(?=\s|#|$)")
_ENTRIES = re.compile(rb"#\s*entries-in-buffer/entries-written:\s*(\d+)/(\d+)")
_LOST = re.compile(
    rb"PERF_RECORD_LOST(?:_SAMPLES)?\s+lost\s+(\d+)"
    rb"|\[LOST (\d+) EVENTS?\]|\[(\d+) EVENTS? DROPPED\]"
    rb"|^\s*(?:CPU:?\s*\d+\s+)?LOST (\d+) events"
)
# kernel/trace/trace.c print_trace_line(), trace-cmd's trace_show_data(): overtaken, the number is not known
_LOST_SOME = re.compile(rb"\[LOST EVENTS\]|\[EVENTS DROPPED\]")
# tools/perf/util/session.c perf_session__warn_about_errors()
_CHUNKS = re.compile(rb"^Processed \d+ (?:events|samples) and lost (\d+(?:\.\d+)?)(%| chunks)!")
_HEADER = re.compile(rb"cpus=\d+$|version = ")
_REMARKS = re.compile(
    rb"CPU \d+ is empty$|Warning:|Check IO/CPU overload!"
    rb"|\[ perf record: |-{3,}$|\S+ in total$|(?:Script|Scanning) (?:started|done)"
    rb"|Dumping ftrace buffer|\(ftrace buffer empty\)|Kernel buffer statistics"
    rb"|trace-cmd: |failed to read event |could not load plugin|\[[\w:-]+\] (?:function|bad op)"
)
#: COMM-PID ... [CPU] FLAGS TIME: NAME: with what may stand between.
_EVENT = re.compile(
    rb"\S.*?\[\d+\]\s+(?:[^\s\d(]\S*\s+)?\d+\.\d+:\s+(?:\(\+[\d.]+\)\s+)?(?:\d+\s+)?([A-Za-z_<]\S*)"
)
_OURS = re.compile(
    rb"(?:kmem:)?mm_page"
    rb"(?:vec_free|_(?:alloc|free|free_batched|free_direct|alloc_zone_locked|pcpu_drain|alloc_extfrag))(?!\w)"
)
_STACK = re.compile(rb"(?:kernel_stack|user_stack):|<(?:user )?stack")

_PRINT = "print it with `perf script --ns -F comm,tid,cpu,time,event,trace`"
#: A pattern of the line's beginning, and what form that is.
_FORMS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (rb"\s*\d+\.\d+ (?:\(.*?\): )?\S.*/\d+ +\w*:?\w+\(",
         "perf trace output: use perf record, then " + _PRINT),
        (rb"\s*(?:\[ *\d+\.\d+\]\s+)?\S.*?-\d+\s+\d+\S*\s+\d+us[ +!#*@$]*:",
         "latency format: `echo 0 > options/latency-format` and read `trace` again (a console's dump cannot "
         "be read)"),
        (rb"\s*\S.*\[\d+\]\s+(?:[^\s\d]\S*\s+)?(?:0x[0-9a-f]+|\d+): +\w*:?\w+:",
         "times are ticks (trace_clock x86-tsc or counter): record with `echo mono > trace_clock`"),
        (rb"\[\d+:\d+:\d+\.\d+\] (?:\(\S+\) )?\S+ \w+: \{",
         "LTTng's text: it has no pfn; record with perf or ftrace"),
        (rb"\s*\S.*\[\d+\].*\d\d?:\d\d:\d\d[.:]\d+",
         "times of day: record with seconds (perf script --ns)"),
        (rb"\s*\S.* +\d+(?:/\d+)? +\d+\.\d+: +(?:\d+ +)?kmem:mm_page", "no [CPU] before the time: " + _PRINT),
        (rb"\s*\S.*\[\d+\]\s+(?:\d+ +)?kmem:mm_page", "no time after the [CPU]: " + _PRINT),
        (rb"\s*\S.*-\d+\s+(?:\S+ +)?\d+\.\d+: +mm_page", "no [CPU] before the time: read ftrace's `trace` "
                                                         "file"),
        (rb"\s*\[ *\d+\.\d+\] ", "kernel messages: no trace"),
        (rb"[\x00-\x08\x0e-\x1f]", "binary"),
    )
)  # fmt: skip


def other_line(line: bytes, notes: Notes) -> str | None:
    """Count a line that is no event of ours; what is wrong with it if it cannot be passed over."""
    text = (
        _PREFIX.sub(b"", line, count=1).strip()
        if line[:1] in b"> 0123456789" or b":" in line[:64]
        else line.strip()
    )
    if not text:
        return None
    event = None if text.startswith(b"#") else _EVENT.match(text)
    if match := _LOST.search(text):
        if event is None or event[1].startswith(b"PERF_RECORD_LOST"):
            notes.lost += next(int(group) for group in match.groups() if group)
            return None
    elif text.startswith(b"#"):
        if match := _ENTRIES.match(text):
            notes.lost += max(int(match[2]) - int(match[1]), 0)
        return None
    if event is None:
        return _no_event(line, text, notes)
    if b"\0" in text or _OURS.match(event[1]):
        return "not understood"
    if _STACK.match(event[1]):
        notes.stacks += 1
    else:
        notes.other_events += 1
    return None


def _no_event(line: bytes, text: bytes, notes: Notes) -> str | None:
    if _LOST_SOME.search(text):
        notes.lost_places += 1
        return None
    if match := _CHUNKS.match(text):
        # a chunk is a PERF_RECORD_LOST, whose number is in the data and not in the text
        notes.lost_places += int(match[1]) if match[2] != b"%" else 1
        return None
    if _HEADER.match(text):
        return None
    if _REMARKS.match(text):
        notes.remarks += 1
        return None
    form = next((words for pattern, words in _FORMS if pattern.match(line)), None)
    return f"not understood ({form})" if form else "not understood"
