"""The hot loop of the trace compiler: who frees whom, resolved once.

For every frame number the compiler keeps what the trace has said of it so far, in sections of
1024 frames made when first touched::

    directory[pfn >> 10] -> entries[1024] u32:   0 never seen   1 free   2 + slot: allocated

A *slot* names an allocation in the operations.  An allocation of order k takes 2^k consecutive
slots of which the operations use the first; page i of it has the entry 2 + slot + i.  Splitting it
therefore changes no entry: its pages already carry the slots that they have as single pages.
Slots are used again, last in first out, one stack per order.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_SPLIT, OP_TICK, op_t

from asi_pa.trace.events import EVENTS
from asi_pa.trace.ops import OP

cdef extern from *:
    """
    #define asi_prefetch(p) __builtin_prefetch((const void *)(p), 1)
    """
    void asi_prefetch(const void *p) noexcept nogil

cdef enum:
    ALL_CPUS = 255
    MAX_ORDER = 10
    SECTION_SHIFT = 10
    SECTION = 1 << SECTION_SHIFT
    AHEAD = 12
    TAIL = 0x80
    TICKS_PER_GAP = 60

cdef enum:
    SEEN_FREE = 1
    HELD = 2

cdef enum:
    OK = 0
    E_NOMEM = 1
    E_KIND = 2
    E_ORDER = 3
    E_ALIGN = 4
    E_GFP = 5
    E_COMM = 6
    E_CPU = 7
    E_SLOTS = 8

cdef enum:
    R_FAILED = 0
    R_ALLOC_HELD = 1
    R_INSERTED_FREES = 2
    R_FREE_FREE = 3
    R_FREE_ORDER = 4
    R_PARTIAL = 5
    R_SPLITS = 6
    R_BATCHED = 7
    R_ALLOCS = 8
    R_FREES = 9
    R_COUNT = 10

cdef enum:                  # what an event becomes
    NO_EVENT = 0
    ALLOC = 1
    FREE = 2
    NOTHING = 3
    NOTHING_COUNTED = 4

cdef uint8_t becomes[256]   # by kind; NO_EVENT where there is none
for _kind in range(256):
    becomes[_kind] = NO_EVENT
for _kind, _event in enumerate(EVENTS):
    becomes[_kind] = {"alloc": ALLOC, "free": FREE, "": NOTHING + _event.counted}[_event.becomes]

cdef uint32_t NO_PFN = 0xFFFFFFFF
cdef uint64_t TICK_NS = 1000000000
cdef uint64_t NO_TIME = 0xFFFFFFFFFFFFFFFF
cdef uint64_t STAMP_MASK = 1023

HELD_AT_START = np.dtype([("pfn", "u4"), ("slot", "u4"), ("order", "u1"), ("pad", "u1", 3)])
COUNTERS = (
    "failed_allocs", "alloc_of_allocated", "frees_inserted", "free_of_free_dropped", "free_of_other_order",
    "partial_frees", "splits", "free_batched_ignored", "allocs", "frees",
)

cdef struct held_t:
    uint32_t pfn
    uint32_t slot
    uint8_t order
    uint8_t pad[3]

cdef struct stack_t:
    uint32_t *data
    uint32_t count
    uint32_t capacity


@cython.final
@cython.auto_pickle(False)
cdef class Compiler:
    """Turns event columns into operations, chunk by chunk.

    ``pairs``, ``thresholds`` come from `Classifier.table`; ``phases`` says when each CPU's vmstat worker
    runs first, in ns (None: all of them every second from the first event on).  State grows with the frames
    the trace touches (4 bytes each) and the allocations alive at once.
    """

    cdef uint32_t **directory
    cdef uint32_t **sections
    cdef uint64_t section_count, section_capacity
    cdef uint8_t *slot_info
    cdef uint64_t slot_capacity
    cdef uint64_t slots
    cdef stack_t stacks[MAX_ORDER + 1]
    cdef op_t *out
    cdef uint64_t out_count, out_capacity, ops_before
    cdef uint64_t *stamp
    cdef uint64_t stamp_count, stamp_capacity
    cdef held_t *held
    cdef uint64_t held_count, held_capacity
    cdef uint64_t counts[R_COUNT]
    cdef int64_t pages, pages_max
    cdef uint64_t now, next_tick
    cdef bint timed                 # each CPU's vmstat worker runs when tick_ns says; else all at once
    cdef const uint64_t[::1] tick_ns
    cdef const uint8_t[::1] tick_cpu
    cdef Py_ssize_t tick_at
    cdef bint started
    cdef const uint8_t[:, ::1] pairs
    cdef const uint64_t[:, :, ::1] thresholds
    cdef uint64_t seed
    cdef uint32_t ncpus, ngfps, ncomms
    cdef uint64_t event

    def __cinit__(self):
        self.slot_capacity = 1 << 16
        self.directory = <uint32_t **>calloc(1 << (32 - SECTION_SHIFT), sizeof(uint32_t *))
        self.slot_info = <uint8_t *>malloc(self.slot_capacity)
        if self.directory == NULL or self.slot_info == NULL:
            raise MemoryError

    def __init__(self, pairs, thresholds, seed, ncpus, ticks=None):
        self.pairs = np.ascontiguousarray(pairs, np.uint8)
        self.thresholds = np.ascontiguousarray(thresholds, np.uint64)
        self.ngfps = <uint32_t>self.thresholds.shape[0]
        self.ncomms = <uint32_t>self.thresholds.shape[1]
        if (self.thresholds.shape[2] != MAX_ORDER + 1 or self.pairs.shape[0] != self.ngfps
                or self.pairs.shape[1] != 2):
            raise ValueError("classifier table of the wrong shape")
        self.seed = <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)
        self.ncpus = ncpus
        self.next_tick = NO_TIME
        if ticks is not None:
            self.timed = True
            self.tick_ns = np.ascontiguousarray(ticks.time_ns, np.uint64)
            self.tick_cpu = np.ascontiguousarray(ticks.cpu, np.uint8)
            if self.tick_ns.shape[0] != self.tick_cpu.shape[0] or (ticks.cpu >= ncpus).any():
                raise ValueError("ticks of CPUs that are not there")
            if self.tick_ns.shape[0]:
                self.next_tick = self.tick_ns[0]

    def __dealloc__(self):
        cdef uint64_t i
        for i in range(self.section_count):
            free(self.sections[i])
        for i in range(<uint64_t>(MAX_ORDER + 1)):
            free(self.stacks[i].data)
        free(self.sections)
        free(self.directory)
        free(self.slot_info)
        free(self.out)
        free(self.stamp)
        free(self.held)

    def feed(self, const uint64_t[::1] time_ns, const uint8_t[::1] cpu, const uint8_t[::1] kind,
             const uint32_t[::1] pfn, const uint8_t[::1] order, const uint16_t[::1] gfp,
             const uint16_t[::1] comm):
        """Compile the next events; columns of equal length.  Returns their operations, `OP`[k].

        Raises ValueError naming the event that cannot be.
        """
        cdef int64_t n = kind.shape[0]
        cdef int code = OK
        lengths = (time_ns.shape[0], cpu.shape[0], pfn.shape[0], order.shape[0], gfp.shape[0], comm.shape[0])
        for length in lengths:
            if length != n:
                raise ValueError(f"columns of different length: {length} and {n}")
        self.ops_before += self.out_count
        self.out_count = 0
        if n:
            with nogil:
                code = self._run(n, &time_ns[0], &cpu[0], &kind[0], &pfn[0], &order[0], &gfp[0], &comm[0])
        if code == E_NOMEM:
            raise MemoryError
        if code != OK:
            i = <int64_t>(self.event)
            what = {
                E_KIND: "kind", E_ORDER: "order", E_ALIGN: "pfn not aligned to its order", E_GFP: "gfp index",
                E_COMM: "comm index", E_CPU: "cpu", E_SLOTS: "more than 2^32 allocations alive",
            }[code]
            raise ValueError(f"event {i}: impossible {what}")
        ops = np.empty(self.out_count, OP)
        cdef uint8_t[::1] target = ops.view(np.uint8)
        if self.out_count:
            memcpy(&target[0], self.out, self.out_count * sizeof(op_t))
        return ops

    @property
    def nslots(self):
        return self.slots

    @property
    def live_max(self):
        """Most pages alive at once, less those alive at the start (int, >= 0)."""
        return int(self.pages_max)

    @property
    def live_end(self):
        """Pages alive after the last event, less those alive at the start (int)."""
        return int(self.pages)

    def counters(self):
        """Everything counted on the way, a dict by `COUNTERS`."""
        return {name: int(self.counts[i]) for i, name in enumerate(COUNTERS)}

    def stamps(self):
        """u64: the time in ns of every 1024th operation, the first included."""
        times = np.empty(self.stamp_count, np.uint64)
        cdef uint64_t[::1] target = times
        if self.stamp_count:
            memcpy(&target[0], self.stamp, self.stamp_count * sizeof(uint64_t))
        return times

    def held_at_start(self):
        """`HELD_AT_START`[k]: what the trace frees without having allocated it, in the order of the frees."""
        held = np.empty(self.held_count, HELD_AT_START)
        cdef uint8_t[::1] target = held.view(np.uint8)
        if self.held_count:
            memcpy(&target[0], self.held, self.held_count * sizeof(held_t))
        return held

    cdef int _run(self, int64_t n, const uint64_t *time_ns, const uint8_t *cpu, const uint8_t *kind,
                  const uint32_t *pfn, const uint8_t *order, const uint16_t *gfp,
                  const uint16_t *comm) noexcept nogil:
        cdef int64_t i
        cdef uint32_t *section
        cdef uint8_t what
        cdef int code
        for i in range(n):
            if i + AHEAD < n:
                section = self.directory[pfn[i + AHEAD] >> SECTION_SHIFT]
                if section != NULL:
                    asi_prefetch(&section[pfn[i + AHEAD] & (SECTION - 1)])
            what = becomes[kind[i]]
            self.now = time_ns[i]
            if self.now >= self.next_tick:
                code = self._reserve(TICKS_PER_GAP * self.ncpus + 8)
                if code != OK:
                    return code
                self._ticks()
            if what >= NOTHING:
                self.counts[R_BATCHED] += what == NOTHING_COUNTED
                self.event += 1
                continue
            if what == NO_EVENT:
                return E_KIND
            if order[i] > MAX_ORDER:
                return E_ORDER
            if cpu[i] >= self.ncpus:
                return E_CPU
            # A free of order 10 may become 1024 single ones, with a split each.
            code = self._reserve(2 * SECTION + 8)
            if code != OK:
                return code
            if not self.started:
                self.started = True
                if not self.timed:
                    self.next_tick = self.now + TICK_NS
            if what == ALLOC:
                if gfp[i] >= self.ngfps:
                    return E_GFP
                if comm[i] >= self.ncomms:
                    return E_COMM
                code = self._alloc(pfn[i], order[i], cpu[i], gfp[i], comm[i])
            else:
                code = self._free(pfn[i], order[i], cpu[i])
            if code != OK:
                return code
            self.event += 1
        return OK

    cdef inline int _reserve(self, uint64_t room) noexcept nogil:
        cdef void *grown
        cdef uint64_t capacity
        if self.out_count + room > self.out_capacity:
            capacity = 2 * self.out_capacity + 16 * room
            grown = realloc(self.out, capacity * sizeof(op_t))
            if grown == NULL:
                return E_NOMEM
            self.out = <op_t *>grown
            self.out_capacity = capacity
        if self.stamp_count + (room >> 10) + 2 > self.stamp_capacity:
            capacity = 2 * self.stamp_capacity + (room >> 10) + 64
            grown = realloc(self.stamp, capacity * sizeof(uint64_t))
            if grown == NULL:
                return E_NOMEM
            self.stamp = <uint64_t *>grown
            self.stamp_capacity = capacity
        return OK

    cdef inline void _emit(self, uint8_t op, uint8_t order, uint8_t cls, uint8_t cpu,
                           uint32_t slot) noexcept nogil:
        cdef op_t *record = &self.out[self.out_count]
        if (self.ops_before + self.out_count) & STAMP_MASK == 0:
            self.stamp[self.stamp_count] = self.now
            self.stamp_count += 1
        record.op = op
        record.order = order
        record.cls = cls
        record.cpu = cpu
        record.slot = slot
        self.out_count += 1

    cdef void _ticks(self) noexcept nogil:
        cdef uint64_t due, most = <uint64_t>TICKS_PER_GAP * self.ncpus, _i
        if not self.timed:
            due = (self.now - self.next_tick) // TICK_NS + 1
            self.next_tick += due * TICK_NS
            for _i in range(min(due, <uint64_t>TICKS_PER_GAP)):
                self._emit(OP_TICK, 0, 0, ALL_CPUS, 0)
            return
        while self.next_tick <= self.now:
            if most:
                most -= 1
                self._emit(OP_TICK, 0, 0, self.tick_cpu[self.tick_at], 0)
            self.tick_at += 1
            self.next_tick = self.tick_ns[self.tick_at] if self.tick_at < self.tick_ns.shape[0] else NO_TIME

    cdef inline uint32_t *_entries(self, uint32_t pfn) noexcept nogil:
        cdef uint32_t *section = self.directory[pfn >> SECTION_SHIFT]
        if section == NULL:
            section = self._new_section(pfn >> SECTION_SHIFT)
            if section == NULL:
                return NULL
        return &section[pfn & (SECTION - 1)]

    cdef uint32_t *_new_section(self, uint32_t number) noexcept nogil:
        cdef uint32_t *section = <uint32_t *>calloc(SECTION, sizeof(uint32_t))
        cdef void *grown
        if section != NULL and self.section_count == self.section_capacity:
            grown = realloc(self.sections, (2 * self.section_capacity + 64) * sizeof(uint32_t *))
            if grown == NULL:
                free(section)
                return NULL
            self.sections = <uint32_t **>grown
            self.section_capacity = 2 * self.section_capacity + 64
        if section == NULL:
            return NULL
        self.sections[self.section_count] = section
        self.section_count += 1
        self.directory[number] = section
        return section

    cdef int _new_slot(self, uint8_t order, uint32_t *slot) noexcept nogil:
        """Slots never used before: also those of allocations that are alive at the start."""
        cdef uint64_t size = <uint64_t>1 << order
        cdef void *grown
        if self.slots + size > NO_PFN - HELD:
            return E_SLOTS
        if self.slots + size > self.slot_capacity:
            grown = realloc(self.slot_info, 2 * self.slot_capacity)
            if grown == NULL:
                return E_NOMEM
            self.slot_info = <uint8_t *>grown
            self.slot_capacity *= 2
        slot[0] = <uint32_t>self.slots
        memset(&self.slot_info[self.slots], TAIL | order, size)
        self.slot_info[self.slots] = order
        self.slots += size
        return OK

    cdef inline int _push(self, uint8_t order, uint32_t slot) noexcept nogil:
        cdef stack_t *stack = &self.stacks[order]
        cdef void *grown
        if stack.count == stack.capacity:
            grown = realloc(stack.data, (2 * <uint64_t>stack.capacity + 64) * sizeof(uint32_t))
            if grown == NULL:
                return E_NOMEM
            stack.data = <uint32_t *>grown
            stack.capacity = 2 * stack.capacity + 64
        stack.data[stack.count] = slot
        stack.count += 1
        return OK

    cdef inline int _alloc(self, uint32_t pfn, uint8_t order, uint8_t cpu, uint16_t gfp,
                           uint16_t comm) noexcept nogil:
        cdef uint32_t size = <uint32_t>1 << order
        cdef uint32_t i, slot = 0
        cdef uint32_t *entry
        cdef bint held = False
        cdef int code
        self.counts[R_ALLOCS] += 1
        if pfn == NO_PFN:
            return self._failed(order, cpu, gfp, comm)
        if pfn & (size - 1) != 0:
            return E_ALIGN
        entry = self._entries(pfn)
        if entry == NULL:
            return E_NOMEM
        for i in range(size):
            held |= entry[i] >= HELD
        if held:
            self.counts[R_ALLOC_HELD] += 1
            code = self._release(pfn, entry, size, cpu, True)
            if code != OK:
                return code
        code = self._take_slot(order, &slot)
        if code != OK:
            return code
        for i in range(size):
            entry[i] = HELD + slot + i
        self._emit(OP_ALLOC, order, self._class(gfp, comm, order), cpu, slot)
        self.pages += size
        if self.pages > self.pages_max:
            self.pages_max = self.pages
        return OK

    cdef int _failed(self, uint8_t order, uint8_t cpu, uint16_t gfp, uint16_t comm) noexcept nogil:
        # A request that failed there is one here, too; what it may get is given back at once.
        cdef uint32_t slot = 0
        cdef int code = self._take_slot(order, &slot)
        self.counts[R_FAILED] += 1
        if code != OK:
            return code
        self._emit(OP_ALLOC, order, self._class(gfp, comm, order), cpu, slot)
        self._emit(OP_FREE, order, 0, cpu, slot)
        return self._push(order, slot)

    cdef inline int _take_slot(self, uint8_t order, uint32_t *slot) noexcept nogil:
        if self.stacks[order].count:
            self.stacks[order].count -= 1
            slot[0] = self.stacks[order].data[self.stacks[order].count]
            return OK
        return self._new_slot(order, slot)

    cdef inline uint8_t _class(self, uint16_t gfp, uint16_t comm, uint8_t order) noexcept nogil:
        cdef uint64_t threshold = self.thresholds[gfp, comm, order], mixed
        cdef uint8_t cls
        if threshold == 0:
            cls = self.pairs[gfp, 0]
        elif threshold > NO_PFN:  # 2^32: always
            cls = self.pairs[gfp, 1]
        else:
            mixed = (self.event + 1) * <uint64_t>0x9E3779B97F4A7C15 + self.seed * <uint64_t>0xD1B54A32D192ED03
            mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
            mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
            mixed = (mixed ^ (mixed >> 31)) >> 32
            cls = self.pairs[gfp, mixed < threshold]
        return cls

    cdef inline int _free(self, uint32_t pfn, uint8_t order, uint8_t cpu) noexcept nogil:
        cdef uint32_t size = <uint32_t>1 << order
        cdef uint32_t i, slot
        cdef uint32_t *entry
        cdef uint32_t seen = 0
        self.counts[R_FREES] += 1
        if pfn & (size - 1):
            return E_ALIGN
        if pfn == NO_PFN:
            return E_ALIGN
        entry = self._entries(pfn)
        if entry == NULL:
            return E_NOMEM
        if entry[0] >= HELD:
            slot = entry[0] - HELD
            if self.slot_info[slot] == order:
                for i in range(size):
                    entry[i] = SEEN_FREE
                self._emit(OP_FREE, order, 0, cpu, slot)
                self.pages -= size
                return self._push(order, slot)
        else:
            for i in range(size):
                seen |= entry[i]
            if seen == 0:
                return self._free_unseen(pfn, entry, order, cpu)
        return self._release(pfn, entry, size, cpu, False)

    cdef int _free_unseen(self, uint32_t pfn, uint32_t *entry, uint8_t order, uint8_t cpu) noexcept nogil:
        """A free of frames that the trace never mentioned: an allocation that was there at the start."""
        cdef uint32_t i, slot = 0
        cdef void *grown
        cdef held_t *record
        cdef int code = self._new_slot(order, &slot)
        if code != OK:
            return code
        if self.held_count == self.held_capacity:
            grown = realloc(self.held, (2 * self.held_capacity + 1024) * sizeof(held_t))
            if grown == NULL:
                return E_NOMEM
            self.held = <held_t *>grown
            self.held_capacity = 2 * self.held_capacity + 1024
        record = &self.held[self.held_count]
        record.pfn = pfn
        record.slot = slot
        record.order = order
        memset(record.pad, 0, 3)
        self.held_count += 1
        for i in range(<uint32_t>1 << order):
            entry[i] = SEEN_FREE
        self._emit(OP_FREE, order, 0, cpu, slot)
        self.pages -= <int64_t>1 << order
        return self._push(order, slot)

    cdef int _release(self, uint32_t pfn, uint32_t *entry, uint32_t size, uint8_t cpu,
                      bint repair) noexcept nogil:
        """Free everything in frames [pfn, pfn + size) that is believed allocated, in pieces as needed.

        ``repair``: the frames are being allocated again, so some frees went unrecorded.  Otherwise
        the trace frees these frames with another order than they were allocated with.
        """
        cdef uint32_t i = 0, j, slot, head
        cdef uint8_t order
        cdef uint64_t dropped = 0
        cdef int code
        if not repair and size == 1 and entry[0] >= HELD:
            self.counts[R_PARTIAL] += 1
        elif not repair and size > 1:
            self.counts[R_FREE_ORDER] += 1
        while i < size:
            if entry[i] < HELD:
                if not repair and entry[i] == SEEN_FREE:
                    dropped += 1
                elif not repair:
                    code = self._free_unseen(pfn + i, &entry[i], 0, cpu)
                    if code != OK:
                        return code
                i += 1
                continue
            slot = entry[i] - HELD
            order = self.slot_info[slot] & ~TAIL
            head = (pfn + i) & ~((<uint32_t>1 << order) - 1)
            slot -= pfn + i - head
            if head < pfn or <uint64_t>head + (<uint64_t>1 << order) > <uint64_t>pfn + size:
                self.counts[R_SPLITS] += 1
                self._emit(OP_SPLIT, order, 0, cpu, slot)
                memset(&self.slot_info[slot], 0, <size_t>1 << order)
                continue
            self.counts[R_INSERTED_FREES] += repair
            self._emit(OP_FREE, order, 0, cpu, slot)
            self.pages -= <int64_t>1 << order
            for j in range(<uint32_t>1 << order):
                entry[i + j] = SEEN_FREE
            code = self._push(order, slot)
            if code != OK:
                return code
            i += <uint32_t>1 << order
        self.counts[R_FREE_FREE] += dropped > 0
        return OK
