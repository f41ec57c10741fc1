"""A scanner for the lines that perf script, trace-cmd report and ftrace print for `trace.events`.

All of them have the same spine, found from the first ``[`` that fits::

    COMM-PID or COMM PID or COMM PID/TID  [CPU]  flags?  SECONDS.FRACTION:  NAME:  key=value ...

with ``(+DIFF)``, a period and ``kmem:`` perhaps before the NAME.  An event is ours by its name, exactly.
Call stacks below an event and blank lines are passed over here; what is no such line (comments, LOST, other
events, nonsense) is handed to Python.  Command names and gfp texts become indices when first seen; what a
new gfp text means is asked of Python before its line is taken.
"""

cimport cython
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

import numpy as np

from asi_pa.trace.events import EVENTS
from asi_pa.trace.format import EVENT_COLUMNS, EXT

cdef enum:
    LINE_EVENT = 0
    LINE_OTHER = 1
    BAD_PFN = 2
    BAD_ORDER = 3
    BAD_TYPE = 4
    BAD_FIELD = 5
    BAD_CPU = 6
    TOO_MANY = 7
    NO_MEMORY = 8
    HIGH_ORDER = 9
    NEW_GFP = 10
    CONTRADICTS = 11
    BAD_TIME = 12
    LINE_PASSED = 13
    BAD_COMMAND = 14
    HIGH_PFN = 15

REASONS = {
    BAD_PFN: "no usable pfn", BAD_ORDER: "no usable order", BAD_TYPE: "no usable migratetype",
    BAD_FIELD: "a field is missing or not understood",
    BAD_CPU: "cpu number above 255, the highest that can be read",
    HIGH_PFN: "pfn above 0xfffffffe: the model ends at 16 TiB of 4 KiB pages",
    BAD_COMMAND: "COMM-PID or COMM PID before the [CPU] is missing",
    TOO_MANY: "more than 65535 different command names or gfp texts",
    HIGH_ORDER: "order above 10: the model is one of 4 KiB pages with orders 0 to 10 "
                "(pages of 16 or 64 KiB have more)",
    CONTRADICTS: "migratetype= is not what the gfp mask asks for: this kernel numbers its flags otherwise",
    BAD_TIME: "time beyond 500 years: not in seconds",
}
#: `Reader.feed` stopped at a line that is no event of ours, and at a gfp text that `know_gfp` is to explain.
OTHER, ASKS_GFP = LINE_OTHER, NEW_GFP

cdef enum:                  # what a line must say
    NEEDS_ORDER = 1
    NEEDS_GFP = 2
    NEEDS_FALLBACK = 4
    MAY_FAIL = 8            # not even a pfn

cdef enum:
    MAX_NAMES = 32
    NOT_OURS = 255

cdef enum:
    MAX_ORDER = 10
    UNKNOWN = -2            # a gfp text that Python was not asked about
    LONGEST = 16000000000   # seconds: 500 years, which 64 bits hold in ns

cdef struct name_t:
    const char *text
    uint32_t length
    uint8_t kind

_WORDS = {"order": NEEDS_ORDER, "gfp": NEEDS_GFP, "fallback": NEEDS_FALLBACK}
cdef list kept = []                 # the bytes that names point into
cdef name_t names[MAX_NAMES]
cdef uint32_t nnames = 0
cdef uint8_t needs_of[256]          # by kind


cdef int know_events() except -1:
    global nnames
    cdef bytes text
    for kind, event in enumerate(EVENTS):
        needs_of[<uint8_t>kind] = MAY_FAIL if event.fails else 0
        for word in event.needs:
            needs_of[<uint8_t>kind] |= <uint8_t>_WORDS[word]
        for name in (event.tracepoint, *event.formerly):
            if nnames == MAX_NAMES:
                raise OverflowError(f"more than {MAX_NAMES} names of trace events")
            text = name.encode()
            kept.append(text)
            names[nnames].text = text
            names[nnames].length = <uint32_t>len(text)
            names[nnames].kind = kind
            nnames += 1
    return 0


know_events()

cdef uint32_t NO_PFN = 0xFFFFFFFF
cdef uint8_t HEX[256]
for _code in range(256):
    HEX[_code] = int(chr(_code), 16) if chr(_code) in "0123456789abcdefABCDEF" else 255

cdef struct ext_t:           # a row of `EXT`
    uint64_t event
    uint8_t alloc_order
    uint8_t fallback_order
    int8_t alloc_mt
    int8_t fallback_mt
    uint8_t change_ownership
    uint8_t pad[3]

cdef struct text_t:
    char *data
    uint32_t length
    uint32_t mixed
    uint64_t line

cdef struct intern_t:
    text_t *texts
    uint32_t *table
    uint32_t count
    uint32_t last

cdef enum:
    TABLE = 1 << 17
    HEAD = 64

cdef struct fields_t:
    uint64_t pfn, order, mt, alloc_order, fallback_order, alloc_mt, fallback_mt, ownership
    bint has_pfn, has_order, has_mt, has_fallback, no_page
    const char *gfp
    uint32_t gfp_length

cdef inline uint32_t mix(const char *data, uint32_t length) noexcept nogil:
    cdef uint64_t value = length
    cdef uint64_t word
    cdef uint32_t i = 0
    while i + 8 <= length:
        memcpy(&word, data + i, 8)
        value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
        i += 8
    word = 0
    memcpy(&word, data + i, length - i)
    value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return <uint32_t>(value >> 32)

cdef int intern_find(intern_t *table, const char *data, uint32_t length, uint64_t line,
                     uint16_t *index) noexcept nogil:
    cdef text_t *text
    cdef uint32_t mixed, at
    if table.count:
        text = &table.texts[table.last]
        if text.length == length and memcmp(text.data, data, length) == 0:
            index[0] = <uint16_t>table.last
            return LINE_EVENT
    mixed = mix(data, length)
    at = mixed & (TABLE - 1)
    while table.table[at]:
        text = &table.texts[table.table[at] - 1]
        if text.mixed == mixed and text.length == length and memcmp(text.data, data, length) == 0:
            table.last = table.table[at] - 1
            index[0] = <uint16_t>table.last
            return LINE_EVENT
        at = (at + 1) & (TABLE - 1)
    if table.count == 0xFFFF:
        return TOO_MANY
    text = &table.texts[table.count]
    text.data = <char *>malloc(length + 1)
    if text.data == NULL:
        return NO_MEMORY
    memcpy(text.data, data, length)
    text.length = length
    text.mixed = mixed
    text.line = line
    table.last = table.count
    index[0] = <uint16_t>table.count
    table.count += 1
    table.table[at] = table.count
    return LINE_EVENT

cdef list intern_texts(intern_t *table):
    cdef uint32_t i
    texts = []
    for i in range(table.count):
        text = table.texts[i].data[: table.texts[i].length]
        texts.append((text.decode("utf-8", "backslashreplace"), int(table.texts[i].line)))
    return texts

# Every line ends in a newline that belongs to the data, so loops over digits and spaces need no other end.

cdef inline const char *spaces(const char *at) noexcept nogil:
    while at[0] == c" " or at[0] == c"\t":
        at += 1
    return at

cdef inline const char *hexadecimal(const char *at, uint64_t *value) noexcept nogil:
    """Hex digits at ``at``; returns what follows them, NULL if there are none or more than 16."""
    cdef const char *start = at
    cdef uint64_t result = 0
    cdef uint8_t digit = HEX[<uint8_t>at[0]]
    while digit < 16:
        result = result << 4 | digit
        at += 1
        digit = HEX[<uint8_t>at[0]]
    value[0] = result
    if at == start or at - start > 16:
        return NULL
    return at

cdef inline const char *number(const char *at, uint64_t *value) noexcept nogil:
    """Decimal or 0x hex digits at ``at``; returns what follows them, NULL if there are none or too many."""
    cdef const char *start = at
    cdef uint64_t result = 0
    cdef uint8_t digit = <uint8_t>at[0] - <uint8_t>c"0"
    if at[0] == c"0" and at[1] == c"x":
        return hexadecimal(at + 2, value)
    while digit < 10:
        result = result * 10 + digit
        at += 1
        digit = <uint8_t>at[0] - <uint8_t>c"0"
    value[0] = result
    if at == start or at - start > 19:
        return NULL
    return at

cdef inline const char *fraction(const char *at, uint64_t *nanoseconds) noexcept nogil:
    """The digits after the point of a time in seconds; those beyond the ninth are passed over."""
    cdef const char *start = at
    cdef uint64_t result = 0
    cdef uint8_t digit = <uint8_t>at[0] - <uint8_t>c"0"
    while digit < 10:
        if at - start < 9:
            result = result * 10 + digit
        at += 1
        digit = <uint8_t>at[0] - <uint8_t>c"0"
    if at - start == 6:
        result *= 1000
    elif at - start < 9:
        for _i in range(9 - (at - start)):
            result *= 10
    nanoseconds[0] = result
    if at == start:
        return NULL
    return at

cdef inline bint in_name(char c) noexcept nogil:
    return c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c"0" <= c <= c"9" or c == c"_" or c == c":" or c == c"."

cdef inline const char *event_name(const char *at, const char *end, uint8_t *kind) noexcept nogil:
    """``NAME:`` at ``at``, perhaps with ``kmem:`` before; returns what follows it, NULL if there is no name.

    ``kind`` becomes `NOT_OURS` for an event that is none of ours.
    """
    cdef const char *name = at
    cdef int64_t length
    cdef uint32_t k
    kind[0] = NOT_OURS
    while at < end and in_name(at[0]):
        at += 1
    if at < end and at[0] == c"=":      # the first field follows without a space
        while at > name and (at - 1)[0] != c":":
            at -= 1
    if at - name < 2 or (at - 1)[0] != c":":
        return NULL
    if at - name > 5 and memcmp(name, b"kmem:", 5) == 0:
        name += 5
    length = at - 1 - name
    for k in range(nnames):
        if length == names[k].length and memcmp(name, names[k].text, <size_t>length) == 0:
            kind[0] = names[k].kind
            break
    return at

cdef inline bint is_space(char c) noexcept nogil:
    return c == c" " or c == c"\t"

cdef inline const char *unquoted(const char *at, const char *end) noexcept nogil:
    """Past what mails (``> ``) and grep (``12:``, ``FILE:12:``) put before a line, and spaces.

    Where a command has no name this is beyond ``end``.
    """
    cdef const char *here
    at = spaces(at)
    while at < end and at[0] == c">":
        at = spaces(at + 1)
    here = at
    while here < end and c"0" <= here[0] <= c"9":
        here += 1
    if here > at and here[0] == c":":
        return spaces(here + 1)
    while here < end and here[0] != c" " and here[0] != c":":
        here += 1
    if here < end and here[0] == c":" and here > at:
        here += 1
        if c"0" <= here[0] <= c"9":
            while here < end and c"0" <= here[0] <= c"9":
                here += 1
            if here < end and here[0] == c":":
                return spaces(here + 1)
    return at

cdef inline bint is_stack(const char *at, const char *end) noexcept nogil:
    """A frame of a call chain: ftrace's and trace-cmd's ``=> symbol``, perf's indented ``address symbol``."""
    cdef const char *begin = at
    cdef uint64_t address = 0
    while at < end and (at[0] == c" " or at[0] == c"\t"):
        at += 1
    if end - at > 2 and at[0] == c"=" and at[1] == c">":
        return True
    if at == begin:
        return False
    at = hexadecimal(at, &address)
    return at != NULL and at < end and at[0] == c" "

cdef inline const char *usual_start(const char *at, const char *end, fields_t *f) noexcept nogil:
    """`` page=0x... pfn=0x...``, as perf and trace-cmd write it: most lines by far; returns what follows it.

    Returns ``at`` for anything else, page=0x0 included.
    """
    cdef const char *here = at
    if end - here < 20 or memcmp(here, b" page=0x", 8) != 0 or here[8] == c"0":
        return at
    here += 8
    while <uint8_t>here[0] > c" ":
        here += 1
    if end - here < 7 or memcmp(here, b" pfn=0x", 7) != 0:
        return at
    here = hexadecimal(here + 7, &f.pfn)
    if here == NULL:
        return at
    f.has_pfn = True
    return here


@cython.final
@cython.auto_pickle(False)
cdef class Reader:
    """Scans chunks of text into event columns."""

    cdef intern_t comm_names, gfp_texts
    cdef int8_t *gfp_types
    cdef uint64_t rows_before, last_ns
    cdef bint started, below_event
    cdef readonly uint64_t line
    """Lines seen so far, this one included."""
    cdef readonly uint64_t first_ns
    """The first event's time; all times are modulo 2^64 from it."""
    cdef readonly uint64_t stacks
    """Lines of call chains passed over."""
    cdef readonly uint64_t steps_back
    """Events that bear an earlier time than the one before."""
    cdef readonly uint64_t step_back_line
    cdef readonly uint64_t steps_forth
    cdef readonly uint64_t typed
    """Allocations that say Movable or Reclaimable as their masks ask for."""
    cdef readonly uint64_t untyped
    """Allocations that say Unmovable where the mask asks for another type; ``untyped_line`` is the first."""
    cdef readonly uint64_t untyped_line
    cdef char head[HEAD]
    cdef int64_t head_length
    cdef uint16_t head_comm
    cdef int64_t capacity
    cdef uint64_t *c_time
    cdef uint8_t *c_cpu
    cdef uint8_t *c_kind
    cdef uint32_t *c_pfn
    cdef uint8_t *c_order
    cdef int8_t *c_mt
    cdef uint16_t *c_gfp
    cdef uint16_t *c_comm
    cdef object columns, ext_rows
    cdef ext_t *ext
    cdef int64_t ext_count, ext_capacity

    def __cinit__(self):
        self.head_length = -1
        self.comm_names.texts = <text_t *>calloc(0x10000, sizeof(text_t))
        self.comm_names.table = <uint32_t *>calloc(TABLE, sizeof(uint32_t))
        self.gfp_texts.texts = <text_t *>calloc(0x10000, sizeof(text_t))
        self.gfp_texts.table = <uint32_t *>calloc(TABLE, sizeof(uint32_t))
        self.gfp_types = <int8_t *>malloc(0x10000)
        if (self.gfp_types == NULL or self.comm_names.texts == NULL or self.comm_names.table == NULL
                or self.gfp_texts.texts == NULL
                or self.gfp_texts.table == NULL):
            raise MemoryError
        memset(self.gfp_types, UNKNOWN, 0x10000)

    def __dealloc__(self):
        cdef uint32_t i
        if self.comm_names.texts != NULL:
            for i in range(self.comm_names.count):
                free(self.comm_names.texts[i].data)
        if self.gfp_texts.texts != NULL:
            for i in range(self.gfp_texts.count):
                free(self.gfp_texts.texts[i].data)
        free(self.comm_names.texts)
        free(self.comm_names.table)
        free(self.gfp_texts.texts)
        free(self.gfp_texts.table)
        free(self.gfp_types)
        free(self.ext)

    def feed(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end):
        """Scan whole lines of ``data[start:end]``.

        Stops after the last complete line or at one it does not know.  Returns (columns as a dict of arrays
        that the next call overwrites, `EXT`[k], where it stopped, reason): reason 0 at the end,
        `OTHER` for a line that is no kmem:mm_page event, `ASKS_GFP` for one with a new gfp text, otherwise a
        key of `REASONS`.  The line itself is ``data[stop:]`` up to its end, its number ``line + 1``; `skip`
        goes past it.
        """
        if not 0 <= start <= end <= data.shape[0]:
            raise ValueError(f"no bytes {start}:{end} in {data.shape[0]}")
        cdef int64_t size = end - start
        cdef int64_t rows = 0
        cdef int code = LINE_EVENT
        cdef const char *begin
        cdef const char *at
        cdef const char *limit
        cdef const char *stop
        # The shortest line that can be an event has more than 32 characters.
        self._columns(size // 32 + 1)
        self.ext_count = 0
        if size > 0:
            begin = <const char *>&data[0]
            at = begin + start
            limit = begin + end
            with nogil:
                while at < limit:
                    stop = <const char *>memchr(at, c"\n", limit - at)
                    if stop == NULL:
                        break
                    code = self._line(at, stop, rows)
                    if code == LINE_EVENT:
                        rows += 1
                        self.below_event = True
                    elif code == LINE_PASSED:
                        code = LINE_EVENT
                    else:
                        break
                    self.line += 1
                    at = stop + 1
            start = at - begin
        if code == NO_MEMORY:
            raise MemoryError
        self.rows_before += rows
        ext = np.empty(self.ext_count, EXT)
        cdef uint8_t[::1] target = ext.view(np.uint8)
        if self.ext_count:
            memcpy(&target[0], self.ext, self.ext_count * sizeof(ext_t))
        return {name: column[:rows] for name, column in self.columns.items()}, ext, start, code

    def skip(self):
        """Count a line that Python dealt with."""
        self.line += 1
        self.below_event = True

    def new_gfp(self):
        """(index, text) of the gfp text that `feed` stopped at."""
        cdef uint32_t last = self.gfp_texts.last
        return int(last), self.gfp_texts.texts[last].data[: self.gfp_texts.texts[last].length].decode(
            "utf-8", "backslashreplace")

    def know_gfp(self, uint16_t index, int8_t migratetype):
        """Which migratetype the mask of a gfp text asks for; -1: nothing is to be compared with."""
        self.gfp_types[index] = migratetype

    def comms(self):
        """(command name, number of the line where it was first seen) by index."""
        return intern_texts(&self.comm_names)

    def gfps(self):
        """(gfp text, number of the line where it was first seen) by index."""
        return intern_texts(&self.gfp_texts)

    cdef _columns(self, int64_t rows):
        if self.columns is not None and rows <= self.capacity:
            return
        self.capacity = rows
        self.columns = {name: np.empty(rows, dtype) for name, dtype in EVENT_COLUMNS.items()}
        cdef uint64_t[::1] time_ns = self.columns["time_ns"]
        cdef uint8_t[::1] cpu = self.columns["cpu"]
        cdef uint8_t[::1] kind = self.columns["kind"]
        cdef uint32_t[::1] pfn = self.columns["pfn"]
        cdef uint8_t[::1] order = self.columns["order"]
        cdef int8_t[::1] migratetype = self.columns["migratetype"]
        cdef uint16_t[::1] gfp = self.columns["gfp"]
        cdef uint16_t[::1] comm = self.columns["comm"]
        self.c_time = &time_ns[0]
        self.c_cpu = &cpu[0]
        self.c_kind = &kind[0]
        self.c_pfn = &pfn[0]
        self.c_order = &order[0]
        self.c_mt = &migratetype[0]
        self.c_gfp = &gfp[0]
        self.c_comm = &comm[0]

    cdef int _line(self, const char *begin, const char *end, int64_t row) noexcept nogil:
        cdef const char *at = begin
        cdef const char *bracket
        cdef const char *after
        cdef uint64_t cpu = 0, seconds = 0, nanoseconds = 0
        cdef uint8_t kind = 0
        while True:
            # A command's name may hold brackets too: the first ones that are followed by a time and an event.
            bracket = <const char *>memchr(at, c"[", end - at)
            if bracket == NULL:
                return self._no_event(begin, end)
            at = bracket + 1
            after = number(at, &cpu)
            if after == NULL or after[0] != c"]":
                continue
            after = spaces(after + 1)
            if not c"0" <= after[0] <= c"9":
                # ftrace: irqs-off, need-resched, ...
                while <uint8_t>after[0] > c" ":
                    after += 1
                after = spaces(after)
            after = number(after, &seconds)
            if after == NULL or after[0] != c".":
                continue
            after = fraction(after + 1, &nanoseconds)
            if after == NULL or after[0] != c":":
                continue
            after = spaces(after + 1)
            if after[0] == c"(" and after[1] == c"+":       # trace-cmd report --ts-diff
                while after < end and after[0] != c" ":
                    after += 1
                after = spaces(after)
            if c"0" <= after[0] <= c"9":                    # perf script -F +period
                while c"0" <= after[0] <= c"9":
                    after += 1
                if not is_space(after[0]):
                    continue
                after = spaces(after)
            after = event_name(after, end, &kind)
            if after != NULL:
                break
        if kind == NOT_OURS:
            return LINE_OTHER
        if cpu > 255:
            return BAD_CPU
        if seconds > LONGEST:
            return BAD_TIME
        self.c_cpu[row] = <uint8_t>cpu
        self.c_kind[row] = kind
        seconds = seconds * 1000000000 + nanoseconds
        cdef int code = self._command(begin, bracket, row)
        if code == LINE_EVENT:
            code = self._payload(after, end, kind, row)
        if code != LINE_EVENT:
            return code
        if not self.started:
            self.started = True
            self.first_ns = self.last_ns = seconds
        if seconds < self.last_ns:
            if not self.steps_back:
                self.step_back_line = self.line + 1
            self.steps_back += 1
        self.steps_forth += seconds > self.last_ns
        self.last_ns = seconds
        self.c_time[row] = seconds - self.first_ns
        return LINE_EVENT

    cdef int _no_event(self, const char *begin, const char *end) noexcept nogil:
        cdef const char *at = begin
        while at < end and (at[0] == c" " or at[0] == c"\t" or at[0] == c"\r"):
            at += 1
        if at == end:
            return LINE_PASSED
        if self.below_event and is_stack(begin, end):
            self.stacks += 1
            return LINE_PASSED
        return LINE_OTHER

    cdef int _command(self, const char *begin, const char *end, int64_t row) noexcept nogil:
        """``COMM-PID``, ``COMM PID``, ``COMM PID/TID``, each perhaps with ``( TGID)``, from the right."""
        cdef const char *digits
        cdef int64_t length = end - begin
        cdef const char *head = begin
        cdef int code
        # The same command goes on for many lines.
        if length == self.head_length and memcmp(begin, self.head, length) == 0:
            self.c_comm[row] = self.head_comm
            return LINE_EVENT
        while end > begin and is_space((end - 1)[0]):
            end -= 1
        if end > begin and (end - 1)[0] == c")":
            while end > begin and (end - 1)[0] != c"(":
                end -= 1
            if end > begin:
                end -= 1
            while end > begin and is_space((end - 1)[0]):
                end -= 1
        digits = end
        while end > begin and c"0" <= (end - 1)[0] <= c"9":
            end -= 1
        if end > begin and end < digits and (end - 1)[0] == c"/":
            end -= 1
            while end > begin and c"0" <= (end - 1)[0] <= c"9":
                end -= 1
        if end == digits or end == begin or ((end - 1)[0] != c"-" and not is_space((end - 1)[0])):
            return BAD_COMMAND
        end -= 1
        while end > begin and is_space((end - 1)[0]):
            end -= 1
        begin = unquoted(begin, end)
        if begin > end:
            begin = end
        code = intern_find(&self.comm_names, begin, <uint32_t>(end - begin), self.line + 1, &self.c_comm[row])
        if code == LINE_EVENT and length <= HEAD:
            memcpy(self.head, head, length)
            self.head_length = length
            self.head_comm = self.c_comm[row]
        return code

    cdef int _payload(self, const char *at, const char *end, uint8_t kind, int64_t row) noexcept nogil:
        cdef fields_t f
        cdef int code
        cdef uint32_t needs = needs_of[kind]
        f.has_pfn = f.has_order = f.has_mt = f.has_fallback = f.no_page = False
        f.pfn = f.order = f.mt = f.ownership = 0
        f.alloc_order = f.fallback_order = f.alloc_mt = f.fallback_mt = 0
        f.gfp = NULL
        f.gfp_length = 0
        at = usual_start(at, end, &f)
        while True:
            while is_space(at[0]) or at[0] == c"\r":
                at += 1
            if at >= end:
                break
            at = self._field(at, end, &f)
            if at == NULL:
                return BAD_FIELD
        if not f.has_pfn:
            return BAD_PFN
        # include/trace/events/kmem.h: a null page prints pfn 0 (or -1); some tools print every page as null
        if needs & MAY_FAIL and ((f.no_page and f.pfn == 0) or f.pfn == <uint64_t>-1 or f.pfn == NO_PFN):
            f.pfn = NO_PFN
        elif f.pfn > <uint64_t>(1 << 52):       # a negative number
            return BAD_PFN
        elif f.pfn >= NO_PFN:
            return BAD_PFN if f.pfn == NO_PFN else HIGH_PFN
        if needs & NEEDS_ORDER and not f.has_order:
            return BAD_ORDER
        if f.order > 31 or f.alloc_order > 31 or f.fallback_order > 31:
            return BAD_ORDER
        if f.order > MAX_ORDER or f.alloc_order > MAX_ORDER or f.fallback_order > MAX_ORDER:
            return HIGH_ORDER
        if f.mt > 127 or f.alloc_mt > 127 or f.fallback_mt > 127:
            return BAD_TYPE
        self.c_pfn[row] = <uint32_t>f.pfn
        self.c_order[row] = <uint8_t>(f.fallback_order if needs & NEEDS_FALLBACK else f.order)
        self.c_mt[row] = <int8_t>f.mt if f.has_mt else -1
        self.c_gfp[row] = 0
        if needs & NEEDS_GFP:
            if f.gfp == NULL:
                return BAD_FIELD
            code = intern_find(&self.gfp_texts, f.gfp, f.gfp_length, self.line + 1, &self.c_gfp[row])
            if code == LINE_EVENT:
                code = self._asked_type(&f, row)
            if code != LINE_EVENT:
                return code
        if needs & NEEDS_FALLBACK:
            if not f.has_fallback:
                return BAD_FIELD
            self.c_mt[row] = <int8_t>f.alloc_mt
            return self._extfrag(&f, row)
        return LINE_EVENT

    cdef inline int _asked_type(self, fields_t *f, int64_t row) noexcept nogil:
        """The requested migratetype, twice told: as ``migratetype=`` and by the mask."""
        cdef int8_t asked = self.gfp_types[self.c_gfp[row]]
        if asked == UNKNOWN:
            return NEW_GFP
        if not f.has_mt or asked < 0:
            return LINE_EVENT
        if <uint64_t>asked == f.mt:
            self.typed += asked != 0
            return LINE_EVENT
        if f.mt != 0:
            return CONTRADICTS
        # without mobility grouping every request is Unmovable (gfp_migratetype, include/linux/gfp.h)
        if not self.untyped:
            self.untyped_line = self.line + 1
        self.untyped += 1
        return LINE_EVENT

    cdef int _extfrag(self, fields_t *f, int64_t row) noexcept nogil:
        cdef ext_t *ext
        cdef void *grown
        if self.ext_count == self.ext_capacity:
            grown = realloc(self.ext, (2 * self.ext_capacity + 64) * sizeof(ext_t))
            if grown == NULL:
                return NO_MEMORY
            self.ext = <ext_t *>grown
            self.ext_capacity = 2 * self.ext_capacity + 64
        ext = &self.ext[self.ext_count]
        self.ext_count += 1
        ext.event = self.rows_before + row
        ext.alloc_order = <uint8_t>f.alloc_order
        ext.fallback_order = <uint8_t>f.fallback_order
        ext.alloc_mt = <int8_t>f.alloc_mt
        ext.fallback_mt = <int8_t>f.fallback_mt
        ext.change_ownership = f.ownership != 0
        ext.pad[0] = ext.pad[1] = ext.pad[2] = 0
        return LINE_EVENT

    cdef inline const char *_field(self, const char *at, const char *end, fields_t *f) noexcept nogil:
        """One ``key=value``; returns what follows it, NULL if it is none."""
        cdef const char *stop
        cdef const char *tab
        cdef int64_t left = end - at
        if left > 4 and memcmp(at, b"pfn=", 4) == 0:
            if f.has_pfn:       # twice: two lines ran into one
                return NULL
            f.has_pfn = True
            if at[4] == c"-":
                stop = number(at + 5, &f.pfn)
                f.pfn = -f.pfn
                return stop
            return number(at + 4, &f.pfn)
        if left > 6 and memcmp(at, b"order=", 6) == 0:
            if f.has_order:
                return NULL
            f.has_order = True
            return number(at + 6, &f.order)
        if left > 12 and memcmp(at, b"migratetype=", 12) == 0:
            f.has_mt = at[12] != c"-"
            return number(at + 12 + (not f.has_mt), &f.mt)
        stop = <const char *>memchr(at, c" ", left)
        if stop == NULL:
            stop = end
            while stop > at and (stop - 1)[0] == c"\r":
                stop -= 1
        tab = <const char *>memchr(at, c"\t", stop - at)
        if tab != NULL:
            stop = tab
        if left > 10 and memcmp(at, b"gfp_flags=", 10) == 0:
            if f.gfp != NULL:
                return NULL
            f.gfp = at + 10
            f.gfp_length = <uint32_t>(stop - at - 10)
            return stop
        if left > 5 and memcmp(at, b"page=", 5) == 0:
            # (nil), (null), null or a pointer of zeros only.
            at += 5
            if at < stop and at[0] == c"(":
                at += 1
            if at < stop and (at[0] == c"n" or at[0] == c"N"):
                f.no_page = True
            else:
                f.no_page = at < stop
                while at < stop:
                    if at[0] != c"0" and at[0] != c"x":
                        f.no_page = False
                        break
                    at += 1
            return stop
        if at[0] == c"(":  # ftrace -o fields: the value again, in decimal
            return stop
        if left > 12 and memcmp(at, b"alloc_order=", 12) == 0:
            return number(at + 12, &f.alloc_order)
        if left > 15 and memcmp(at, b"fallback_order=", 15) == 0:
            f.has_fallback = True
            return number(at + 15, &f.fallback_order)
        if left > 18 and memcmp(at, b"alloc_migratetype=", 18) == 0:
            return number(at + 18, &f.alloc_mt)
        if left > 21 and memcmp(at, b"fallback_migratetype=", 21) == 0:
            return number(at + 21, &f.fallback_mt)
        if left > 17 and memcmp(at, b"change_ownership=", 17) == 0:
            return number(at + 17, &f.ownership)
        # Another field: percpu_refill=, pageblock_order=, fragmenting=, nid= ...
        if memchr(at, c"=", stop - at) == NULL:
            return NULL
        return stop
