"""A recorded run followed on the model's own lists: what the kernel did is carried out, the model asked
first.

Every event of a trace says what the kernel decided: which page a refill took, which one the caller got, which
one went back, whom it claimed from.  Before each is carried out, the model's rules are asked what they would
have done in that very state (*one step at a time*); afterwards the state is the recorded one again.  So the
free lists are those of the recorded machine at every event, as far as the start state and the trace go.

    zone_locked   its free block is split down to it; a refill appends it to the CPU's list
    extfrag       the same across types: a whole block is retyped, a single piece is not
    alloc         leaves the CPU's list; pages ahead of it were allocated without an event
    free          heads the list of its block's type, or merges into the buddy
    pcpu_drain    leaves its list, merges into the buddy

Where a page is not where the event needs it (a *ghost*) it is taken from wherever it is.  A trace may
contradict itself as it likes: an event is carried out only on an aligned block that lies in one zone as a
whole, and afterwards every frame is in one block again, whatever it was in before.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

from asi_pa._core cimport (
    ALLOC,
    MAX_CPUS,
    MAX_FREETYPES,
    MAX_ORDERS,
    NIL,
    ORDER_MASK,
    PCP,
    QUEUED,
    TAIL,
    TAKEN,
    WMARK_HIGH,
    account_freepages,
    block_of,
    clz,
    ctz,
    fallback_orders,
    fallback_t,
    find_suitable_fallback,
    first_of,
    free_to_buddy,
    likely,
    list_del,
    pcp_set_quiet,
    pcp_t,
    pcplist_t,
    prefetchw,
    request_t,
    set_below_high,
    zone_t,
    zone_watermark_fast,
    zone_watermark_ok,
)
from asi_pa.engine.fill cimport fill_free, fill_pcp
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport decode_request, mm_t, zone_of
from asi_pa.engine.pcp cimport (
    NO_PCP_LIST,
    nr_pcp_alloc,
    pcp_append,
    pcp_empty,
    pcp_excess,
    pcp_first,
    pcp_lower_high,
    pcp_push,
)

from asi_pa.run.recorded cimport (
    NOWHERE,
    UNKNOWN_TYPE,
    believed,
    break_up,
    carve,
    change_kind,
    distance_to,
    free_block,
    give_away,
    listed_elsewhere,
    off_list,
    take_out,
)

from asi_pa.run.recorded import typed_free

cdef enum:                  # kinds of events, as asi_pa.trace.format numbers them
    EV_ALLOC = 0
    EV_FREE = 1
    EV_FREE_BATCHED = 2
    EV_ZONE_LOCKED = 3
    EV_PCPU_DRAIN = 4
    EV_EXTFRAG = 5

cdef enum:                  # what is asked of the model, one step at a time
    REFILL_PAGE = 0
    REFILL_SIZE = 1
    ALLOC_PAGE = 2
    DRAIN_PAGE = 3
    OWN_EMPTY = 4
    FALLBACK_BLOCK = 5
    QUESTIONS = 6

cdef enum:
    WALK_LIMIT = 4096
    AHEAD = 12              # events that frames are fetched before theirs
    SURELY = 3              # so often passed over, a block is not there
    NESTED = 16             # pages that an interrupt, or what it interrupted, may have been about
    AT_ONCE_NS = 200000

QUESTION_NAMES = ("refill_page", "refill_size", "alloc_page", "drain_page", "own_empty", "block")

cdef struct refill_t:
    # a CPU's refill under way
    zone_t *zone            # NULL: none
    int order
    int index
    int64_t pages           # blocks so far
    int64_t expected
    uint32_t locked         # the last page that left the buddy, pfn


cdef const int64_t[::1] blocks_counted(target, int orders):
    # buddyinfo's free blocks by order, as many orders as the zone has
    counted = np.ascontiguousarray(target, np.int64)
    if counted.shape[0] < orders:
        raise ValueError(f"{counted.shape[0]} orders in buddyinfo, the zone has {orders}")
    return counted


cdef int check_events(trace, Py_ssize_t start, Py_ssize_t end, uint64_t done) except -1:
    columns = ("time_ns", "cpu", "pfn", "order", "migratetype", "gfp")
    if any(len(getattr(trace, name)) != len(trace) for name in columns):
        raise ValueError("columns of different length")
    if end > len(trace) or start < 0 or (start > 0 and <uint64_t>start != done):
        raise ValueError(f"events {start} to {end} of {len(trace)} after {done}")
    return 0


@cython.final
cdef class Tracker:
    """Follows a trace's events on a machine of plain Linux.

    Parameters
    ----------
    machine : Machine
        Of design "linux", in the trace's start state (``Replay.populate``, or ``load``).
    requests : uint32[gfps] request words (`asi_pa.kernel.gfp`) of the trace's gfp masks
    types : uint8[256] the model's freetype of a recorded migratetype's number; 255: none
    ticks : `asi_pa.trace.ticks.Ticks`, when each CPU's vmstat worker runs

    Raises ValueError for another design.
    """

    cdef readonly Machine machine
    cdef mm_t *mm
    cdef uint16_t **where       # by zone, by frame: the per-CPU list a page is on, NOWHERE or 1 + number
    cdef bint noted             # something was ever written there
    cdef uint8_t **refuted      # by zone, by pageblock: bit per freetype that it cannot have had
    cdef uint8_t **guessed      # by zone, by pageblock: nothing in the trace shows its type
    cdef uint8_t **shown        # by zone, by pageblock: an event has shown its type
    cdef uint32_t walked[MAX_FREETYPES][MAX_ORDERS]
    cdef uint8_t passed[MAX_FREETYPES][MAX_ORDERS]  # how often that block was passed over
    cdef request_t *requests
    cdef int nrequests
    cdef uint8_t types[256]
    cdef refill_t refills[MAX_CPUS]
    cdef uint64_t hits[QUESTIONS]
    cdef uint64_t asked[QUESTIONS]
    cdef readonly uint64_t untraced
    cdef readonly uint64_t ghosts
    cdef readonly uint64_t refilled     # blocks that left the buddy, and that were drained to it
    cdef readonly uint64_t drained
    cdef readonly uint64_t outside      # events of what is no block of any zone
    cdef readonly uint64_t done         # events
    cdef Py_ssize_t ext_at
    cdef const uint64_t[::1] tick_ns
    cdef const uint8_t[::1] tick_cpu
    cdef Py_ssize_t tick_at
    # the events, while `run` follows them
    cdef const uint64_t *time_ns
    cdef const uint8_t *cpu
    cdef const uint8_t *kind
    cdef const uint32_t *pfn
    cdef Py_ssize_t events
    cdef readonly object nearest        # (event, distance in pages, blocks off by order) of the last `run`
    cdef public object fallbacks
    cdef readonly list without_event    # allocations from per-CPU lists: (event, CPU, order, pfn)
    cdef Py_ssize_t event               # that is followed

    def __init__(self, Machine machine not None, requests, types, ticks):
        cdef const uint8_t[::1] table = np.ascontiguousarray(types, np.uint8)
        cdef int i
        cdef zone_t *z
        if machine.design.name != "linux":
            raise ValueError(f"a recorded run is followed on design linux, not on {machine.design.name}")
        self.machine = machine
        self.mm = &machine.mm
        for i in range(256):
            self.types[i] = table[i]
        self.nrequests = len(requests)
        self.requests = <request_t *>calloc(self.nrequests + 1, sizeof(request_t))
        self.where = <uint16_t **>calloc(self.mm.nzones, sizeof(void *))
        self.refuted = <uint8_t **>calloc(self.mm.nzones, sizeof(void *))
        self.guessed = <uint8_t **>calloc(self.mm.nzones, sizeof(void *))
        self.shown = <uint8_t **>calloc(self.mm.nzones, sizeof(void *))
        if (self.requests == NULL or self.where == NULL or self.refuted == NULL or self.guessed == NULL
                or self.shown == NULL):
            raise MemoryError("no memory to follow a trace")
        for i in range(self.nrequests):
            decode_request(self.mm, requests[i], &self.requests[i])
        for i in range(self.mm.nzones):
            z = self.mm.zones[i]
            self.where[i] = <uint16_t *>calloc(z.nframes + 1, sizeof(uint16_t))
            self.refuted[i] = <uint8_t *>calloc(z.nblocks + 1, 1)
            self.guessed[i] = <uint8_t *>calloc(z.nblocks + 1, 1)
            self.shown[i] = <uint8_t *>calloc(z.nblocks + 1, 1)
            if (self.where[i] == NULL or self.refuted[i] == NULL or self.guessed[i] == NULL
                    or self.shown[i] == NULL):
                raise MemoryError("no memory to follow a trace")
        for i in range(self.mm.ncpus):
            self.refills[i].locked = NIL
        self.tick_ns = np.ascontiguousarray(ticks.time_ns, np.uint64)
        self.tick_cpu = np.ascontiguousarray(ticks.cpu, np.uint8)
        if (ticks.cpu >= self.mm.ncpus).any():
            raise ValueError(f"ticks of CPU {ticks.cpu.max()}: the machine has {self.mm.ncpus}")
        self.fallbacks = []
        self.without_event = []
        self.note_lists()

    def __dealloc__(self):
        cdef int i
        if self.where != NULL and self.refuted != NULL and self.guessed != NULL and self.shown != NULL:
            for i in range(self.mm.nzones):
                free(self.where[i])
                free(self.refuted[i])
                free(self.guessed[i])
                free(self.shown[i])
        free(self.where)
        free(self.refuted)
        free(self.guessed)
        free(self.shown)
        free(self.requests)

    # ------------------------------------------------------------ the start

    def load(self, int zone, free_pfn, free_order, pcp, block_mt, guessed):
        """A start state's free pages; every other frame is held by somebody.

        free_pfn, free_order : free blocks, each list from its head to its tail
        pcp : pages on per-CPU lists, as ``asi_pa.trace.pcplists.PcpPages``
        block_mt : uint8[pageblocks] types, 0 to 2
        guessed : bool[pageblocks] whose type may be refuted
        """
        cdef zone_t *z = self.machine._zone(zone)
        cdef const uint32_t[::1] frames = np.ascontiguousarray(free_pfn, np.uint32)
        cdef const uint8_t[::1] orders = np.ascontiguousarray(free_order, np.uint8)
        cdef const uint32_t[::1] pcp_pfn = np.ascontiguousarray(pcp.pfn, np.uint32)
        cdef const uint8_t[::1] pcp_order = np.ascontiguousarray(pcp.order, np.uint8)
        cdef const uint8_t[::1] pcp_mt = np.ascontiguousarray(pcp.mt, np.uint8)
        cdef const uint8_t[::1] pcp_cpu = np.ascontiguousarray(pcp.cpu, np.uint8)
        cdef const uint8_t[::1] types = np.ascontiguousarray(block_mt, np.uint8)
        cdef const uint8_t[::1] guess = np.ascontiguousarray(guessed, np.uint8)
        cdef Py_ssize_t i
        cdef uint32_t b, base = <uint32_t>z.base_pfn
        if types.shape[0] != z.nblocks - z.first_block or guess.shape[0] != types.shape[0]:
            raise ValueError(f"{types.shape[0]} block types for {z.nblocks - z.first_block} pageblocks")
        for b in range(z.first_block, z.nblocks):
            z.pbtype[b] = z.pbbase[b] = types[b - z.first_block]
            self.guessed[zone][b] = guess[b - z.first_block]
        memset(&z.state[z.first], ALLOC, z.nframes - z.first)
        for i in range(frames.shape[0]):
            fill_free(z, frames[i] - base, orders[i])
        for i in range(pcp_pfn.shape[0]):
            fill_pcp(z, pcp_cpu[i], pcp_pfn[i] - base, pcp_order[i], pcp_mt[i])
        for i in range(z.ncpus):
            z.nr_free += z.diffs[i].free
            z.diffs[i].free = 0
        self.note_lists()

    def note_lists(self):
        """Learns anew which page is on which per-CPU list: after the machine's state was set."""
        cdef int i, cpu, index
        cdef const uint32_t *at
        cdef zone_t *z
        for i in range(self.mm.nzones):
            z = self.mm.zones[i]
            if self.noted:
                memset(self.where[i], 0, z.nframes * sizeof(uint16_t))
            if z.pcps == NULL:
                continue
            for cpu in range(z.ncpus):
                for index in range(z.design.npcp):
                    at = z.pcps[cpu].lists[index].tail
                    while at != z.pcps[cpu].lists[index].head:
                        self.where[i][at[0]] = <uint16_t>(1 + cpu * z.design.npcp + index)
                        self.noted = True
                        at += 1

    # ------------------------------------------------------------ running

    def run(self, trace, Py_ssize_t start, Py_ssize_t end, target=None, int zone=0, bint latest=False):
        """Follows events [start, end) of a `Trace`, which must come in order, each once.

        target : int64[orders] free blocks, as buddyinfo counts them; the state that is nearest to it is
            remembered in ``nearest``, of equal ones the first, or with ``latest`` the last
        """
        cdef const uint64_t[::1] time_ns = trace.time_ns
        cdef const uint8_t[::1] cpu = trace.cpu, kind = trace.kind, order = trace.order
        cdef const uint32_t[::1] pfn = trace.pfn
        cdef const uint8_t[::1] mt = trace.migratetype.view(np.uint8)
        cdef const uint16_t[::1] gfp = trace.gfp
        ext = trace.ext
        cdef const uint64_t[::1] ext_event = np.ascontiguousarray(ext["event"], np.uint64)
        cdef const uint8_t[::1] alloc_order = np.ascontiguousarray(ext["alloc_order"])
        cdef const uint8_t[::1] fallback_order = np.ascontiguousarray(ext["fallback_order"])
        cdef const uint8_t[::1] alloc_mt = np.ascontiguousarray(ext["alloc_mt"]).view(np.uint8)
        cdef const uint8_t[::1] fallback_mt = np.ascontiguousarray(ext["fallback_mt"]).view(np.uint8)
        cdef const int64_t[::1] aim
        cdef zone_t *aimed = self.machine._zone(zone)
        cdef int64_t best = -1, distance
        cdef Py_ssize_t i, best_at = start
        cdef int orders = aimed.max_order + 1
        cdef fallback_t made
        cdef bint seeks = target is not None
        check_events(trace, start, end, self.done)
        self.ext_at = int(np.searchsorted(ext["event"], start))
        if start >= end:
            return
        self.noted = True
        self.time_ns, self.cpu, self.kind, self.pfn = &time_ns[0], &cpu[0], &kind[0], &pfn[0]
        self.events = len(trace)
        if seeks:
            aim = blocks_counted(target, orders)
            best = distance_to(aimed, &aim[0], orders)
        with nogil:
            for i in range(start, end):
                if i + AHEAD < end:
                    self.fetch(aimed, zone, pfn[i + AHEAD])
                if cpu[i] >= self.mm.ncpus or order[i] > aimed.max_order:
                    self.outside += 1
                    continue
                self.come_to(i)
                if kind[i] == EV_ALLOC:
                    if gfp[i] < self.nrequests:
                        self.on_alloc(i, pfn[i], order[i], cpu[i], &self.requests[gfp[i]])
                elif kind[i] == EV_FREE:
                    self.on_free(pfn[i], order[i], cpu[i])
                elif kind[i] == EV_ZONE_LOCKED:
                    self.on_zone_locked(pfn[i], order[i], cpu[i], self.types[mt[i]])
                elif kind[i] == EV_PCPU_DRAIN:
                    self.on_drain(pfn[i], order[i], cpu[i], self.types[mt[i]])
                elif kind[i] == EV_EXTFRAG:
                    if self.has_details(ext_event, i):
                        if self.on_extfrag(
                                pfn[i], alloc_order[self.ext_at], fallback_order[self.ext_at], cpu[i],
                                self.types[alloc_mt[self.ext_at]], self.types[fallback_mt[self.ext_at]],
                                &made):
                            with gil:
                                self.fallbacks.append((i, made.order, made.fallback_order, made.ft,
                                                       made.fallback_ft))
                else:
                    continue
                if seeks and not self.lock_is_held(i):
                    distance = distance_to(aimed, &aim[0], orders)
                    if distance < best or (latest and distance == best):
                        best, best_at = distance, i + 1
        self.done = end
        self.machine.raise_hook_error()
        self.nearest = (best_at, best) if seeks else self.nearest

    cdef bint has_details(self, const uint64_t[::1] ext_event, Py_ssize_t i) noexcept nogil:
        # Those of a fallback, `ext_at`; of events that were passed over they are, too.
        while self.ext_at < ext_event.shape[0] and ext_event[self.ext_at] < <uint64_t>i:
            self.ext_at += 1
        return self.ext_at < ext_event.shape[0] and ext_event[self.ext_at] == <uint64_t>i

    cdef inline void fetch(self, const zone_t *z, int zone, uint32_t pfn) noexcept nogil:
        # what is known of a frame, before its event comes
        cdef uint32_t frame = pfn - <uint32_t>z.base_pfn
        if frame < z.nframes:
            prefetchw(&z.state[frame])
            prefetchw(&z.links[frame])
            prefetchw(&self.where[zone][frame])

    cdef bint lock_is_held(self, Py_ssize_t i) noexcept nogil:
        # the next event goes on under the zone's lock: nobody counts blocks between the two
        return (i + 1 < self.events and self.kind[i] >= EV_ZONE_LOCKED and self.kind[i + 1] == self.kind[i]
                and self.cpu[i + 1] == self.cpu[i])

    cdef void come_to(self, Py_ssize_t event) noexcept nogil:
        # Before it vmstat's worker lowered `high`; what it drained, the trace shows.
        cdef int i
        cdef zone_t *z
        self.event = event
        while self.tick_at < self.tick_ns.shape[0] and self.tick_ns[self.tick_at] <= self.time_ns[event]:
            for i in range(self.mm.nzones):
                z = self.mm.zones[i]
                if z.pcps != NULL:
                    pcp_lower_high(z, &z.pcps[self.tick_cpu[self.tick_at]])
            self.tick_at += 1

    cdef inline zone_t *zone_with(self, uint32_t pfn, int order) noexcept nogil:
        # The zone that an event's block lies in; NULL, and counted, where it is no block of a zone.
        cdef zone_t *z = zone_of(self.mm, pfn)
        cdef uint32_t pages = 1u << order
        if likely(z != NULL and order <= z.max_order and not pfn & (pages - 1)
                  and z.nframes - (pfn - <uint32_t>z.base_pfn) >= pages, 1):
            return z
        self.outside += 1
        return NULL

    cdef int index_of_zone(self, zone_t *z) noexcept nogil:
        cdef int i
        for i in range(self.mm.nzones):
            if self.mm.zones[i] == z:
                return i
        return 0

    cdef inline bint answer(self, int question, bint hit) noexcept nogil:
        self.asked[question] += 1
        self.hits[question] += hit
        return hit

    cdef void go_unseen(self, zone_t *z, int zone, int cpu, uint32_t frame) noexcept nogil:
        # somebody got the head of a list of this CPU without an event
        cdef int order = z.state[frame] & ORDER_MASK
        self.untraced += 1
        with gil:
            self.without_event.append((self.event, cpu, order, frame + <uint32_t>z.base_pfn))
        give_away(z, self.where[zone], frame)

    # ------------------------------------------------------------ events

    cdef void end_refill(self, int cpu) noexcept nogil:
        cdef refill_t *refill = &self.refills[cpu]
        if refill.zone != NULL:
            self.answer(REFILL_SIZE, refill.pages == refill.expected)
            refill.zone = NULL

    cdef void take(self, zone_t *z, int zone, uint32_t frame, int order, int cpu, int ft) noexcept nogil:
        # A page has left the buddy: a refill appends it, otherwise it waits for its alloc event.
        cdef refill_t *refill = &self.refills[cpu]
        cdef int index = z.design.pcp_list[order][ft]
        cdef pcp_t *pcp
        refill.locked = frame + <uint32_t>z.base_pfn
        if z.pcps == NULL or index == NO_PCP_LIST:
            self.end_refill(cpu)
            z.state[frame] = <uint8_t>(TAKEN | order)
            return
        pcp = &z.pcps[cpu]
        if refill.zone != z or refill.order != order or refill.index != index:
            self.end_refill(cpu)
            while not pcp_empty(&pcp.lists[index]):
                # a list that is refilled is empty: what was still on it went without an event
                self.go_unseen(z, zone, cpu, pcp_first(&pcp.lists[index]))
            refill.expected = nr_pcp_alloc(z, pcp, order)
            pcp_set_quiet(z, pcp)
            refill.zone = z
            refill.order = order
            refill.index = index
            refill.pages = 0
        refill.pages += 1
        pcp_append(z, &pcp.lists[index], frame, order)
        pcp.count += <int64_t>1 << order
        self.where[zone][frame] = <uint16_t>(1 + cpu * z.design.npcp + index)

    cdef void refute(self, zone_t *z, int zone, int ft, int low, int high) noexcept nogil:
        # A block of order `high` was split for `low`: the lists between were empty.  What the model has on
        # them is of another type; or, where its type was shown, somebody got it without an event.
        cdef int order
        cdef uint32_t frame, b, n
        for order in range(low, high):
            if not z.nonempty[ft] >> order & 1:
                continue
            frame = first_of(z, order, ft)
            if self.walked[ft][order] == frame:
                self.passed[ft][order] += 1
                if self.passed[ft][order] >= SURELY and self.shown[zone][block_of(z, frame)]:
                    self.untraced += 1
                    list_del(z, frame, order, ft)
                    account_freepages(z, ft, -(<int64_t>1 << order))
                    z.state[frame] = <uint8_t>(ALLOC | order)
                    z.links[frame].next = 0
                    z.links[frame].prev = NIL
                continue
            self.walked[ft][order] = frame
            self.passed[ft][order] = 1
            n = 0
            while frame < z.nframes and n < WALK_LIMIT:
                b = block_of(z, frame)
                if self.guessed[zone][b]:
                    self.refuted[zone][b] |= <uint8_t>(1 << ft)
                frame = z.links[frame].next
                n += 1

    cdef void on_zone_locked(self, uint32_t pfn, int order, int cpu, int ft) noexcept nogil:
        cdef zone_t *z = self.zone_with(pfn, order)
        cdef uint32_t frame, head, orders
        cdef int high = 0, zone, lowest
        if z == NULL:
            return
        if ft == UNKNOWN_TYPE:
            ft = z.pbtype[block_of(z, pfn - <uint32_t>z.base_pfn)]
        zone = self.index_of_zone(z)
        frame = pfn - <uint32_t>z.base_pfn
        z.diff = &z.diffs[cpu]
        orders = z.nonempty[ft] >> order
        lowest = order + ctz(orders) if orders else -1
        self.answer(REFILL_PAGE, orders != 0 and first_of(z, lowest, ft) == frame)
        self.refilled += 1
        head = free_block(z, frame, &high)
        if head == NIL or high < order:
            self.ghosts += 1
            take_out(z, self.where[zone], frame, order)
            break_up(z, frame, order)
            memset(&z.state[frame], TAIL, 1u << order)
            believed(z, frame, ft)
        else:
            self.refute(z, zone, ft, order, high)
            carve(z, head, high, frame, order, ft)
        self.shown[zone][block_of(z, frame)] = True
        self.take(z, zone, frame, order, cpu, ft)

    cdef bint on_extfrag(self, uint32_t pfn, int order, int fallback_order, int cpu, int ft, int other,
                         fallback_t *made) noexcept nogil:
        # A page of another type: claimed with its block, or taken alone.
        cdef zone_t *z = self.zone_with(pfn, order)
        cdef uint32_t frame, head, orders
        cdef int high = 0, zone, cur = -1, from_ft
        if z == NULL:
            return False
        if ft == UNKNOWN_TYPE or other == UNKNOWN_TYPE:
            self.outside += 1
            return False
        zone = self.index_of_zone(z)
        frame = pfn - <uint32_t>z.base_pfn
        made.order = <uint8_t>order
        made.fallback_order = <uint8_t>fallback_order
        made.ft = <uint8_t>ft
        made.fallback_ft = <uint8_t>other
        z.diff = &z.diffs[cpu]
        if self.refills[cpu].locked == pfn:
            return True         # a part of a block was claimed: its zone_locked event came first
        self.answer(OWN_EMPTY, z.nonempty[ft] >> order == 0)
        orders = fallback_orders(z, ft)
        if fallback_order < z.pageblock_order:
            orders >>= order
            cur = order + ctz(orders) if orders else -1     # __rmqueue_steal(): the smallest
        elif orders:
            cur = 31 - clz(orders)                          # __rmqueue_claim(): the largest
        from_ft = find_suitable_fallback(z, cur, ft) if cur >= 0 else -1
        self.answer(FALLBACK_BLOCK, from_ft >= 0 and first_of(z, cur, from_ft) == frame)
        believed(z, frame, other)
        head = free_block(z, frame, &high)
        if head == NIL or high < order:
            self.ghosts += 1
            take_out(z, self.where[zone], frame, order)
            break_up(z, frame, order)
            memset(&z.state[frame], TAIL, 1u << order)
        elif fallback_order >= z.pageblock_order and high >= z.pageblock_order:
            carve(z, head, high, frame, order, ft)
        else:
            carve(z, head, high, frame, order, z.pbtype[block_of(z, head)])
        self.take(z, zone, frame, order, cpu, ft)
        return True

    cdef bint in_an_interrupt(self, Py_ssize_t i, const zone_t *z, const pcplist_t *fl,
                              uint32_t frame) noexcept nogil:
        # Whether all pages ahead of the one that event i hands out are handed out at once by this CPU: an
        # interrupt came between a page's leaving the list, or joining it, and its event.
        cdef const uint32_t *ahead = fl.head
        cdef Py_ssize_t j
        while True:
            if ahead == fl.tail:
                return False
            ahead -= 1
            if ahead[0] == frame:
                return True
            if fl.head - ahead > NESTED:
                return False
            j = i + 1
            while True:
                if j >= self.events or self.time_ns[j] > self.time_ns[i] + AT_ONCE_NS:
                    return False
                if (self.cpu[j] == self.cpu[i] and self.kind[j] == EV_ALLOC
                        and self.pfn[j] == ahead[0] + <uint32_t>z.base_pfn):
                    break
                j += 1

    cdef void on_alloc(self, Py_ssize_t i, uint32_t pfn, int order, int cpu,
                       const request_t *rq) noexcept nogil:
        cdef zone_t *z
        cdef uint32_t frame
        cdef int zone, index, number
        cdef pcp_t *pcp
        cdef pcplist_t *fl
        self.end_refill(cpu)
        if pfn == NIL:
            return
        z = self.zone_with(pfn, order)
        if z == NULL:
            return
        zone = self.index_of_zone(z)
        frame = pfn - <uint32_t>z.base_pfn
        z.diff = &z.diffs[cpu]
        if not z.below_high and z.nr_free <= z.plenty:
            if not zone_watermark_fast(z, order, z.wmark[WMARK_HIGH] + z.boost, rq.zone_idx, rq.fast_flags):
                set_below_high(z, True)
        index = rq.pcp_list[order]
        number = self.where[zone][frame]
        if z.state[frame] == <uint8_t>(TAKEN | order):
            pass                        # from the buddy
        elif number != NOWHERE and z.state[frame] == <uint8_t>(PCP | order):
            pcp = &z.pcps[cpu]
            if index != NO_PCP_LIST and number == 1 + cpu * z.design.npcp + index:
                pcp.free_count >>= 1
                fl = &pcp.lists[index]
                if not self.answer(ALLOC_PAGE, self.in_an_interrupt(i, z, fl, frame)) and (
                        self.refills[cpu].locked != pfn):
                    while pcp_first(fl) != frame:
                        self.go_unseen(z, zone, cpu, pcp_first(fl))
                off_list(z, self.where[zone], frame)
            else:
                self.answer(ALLOC_PAGE, False)
                self.ghosts += 1
                off_list(z, self.where[zone], frame)
                if index != NO_PCP_LIST and order < z.pageblock_order and (
                        (number - 1) // z.design.npcp == cpu):
                    # this CPU freed it, to the list of its block's type: of the one that it is asked for
                    believed(z, frame, rq.mt)
                    self.shown[zone][block_of(z, frame)] = True
        else:
            if index != NO_PCP_LIST and z.pcps != NULL:
                z.pcps[cpu].free_count >>= 1
                self.answer(ALLOC_PAGE, False)
            self.ghosts += 1
            take_out(z, self.where[zone], frame, order)
            break_up(z, frame, 0)
        self.refills[cpu].locked = NIL
        memset(&z.state[frame], TAIL, 1u << order)
        z.state[frame] = <uint8_t>(ALLOC | order)
        z.links[frame].next = rq.info
        z.links[frame].prev = NIL

    cdef void on_free(self, uint32_t pfn, int order, int cpu) noexcept nogil:
        cdef zone_t *z
        cdef uint32_t frame
        cdef int zone, index
        cdef pcp_t *pcp
        self.end_refill(cpu)
        self.refills[cpu].locked = NIL
        z = self.zone_with(pfn, order)
        if z == NULL:
            return
        zone = self.index_of_zone(z)
        frame = pfn - <uint32_t>z.base_pfn
        z.diff = &z.diffs[cpu]
        if z.state[frame] != <uint8_t>(ALLOC | order):
            if take_out(z, self.where[zone], frame, order):
                self.ghosts += 1
            break_up(z, frame, order)
        memset(&z.state[frame], TAIL, 1u << order)
        index = z.design.pcp_free[order][z.pbtype[block_of(z, frame)]]
        if z.pcps == NULL or index == NO_PCP_LIST:
            free_to_buddy(z, frame, order)
            return
        pcp = &z.pcps[cpu]
        pcp.alloc_factor >>= 1
        pcp_push(z, &pcp.lists[index], frame, order)
        pcp.count += <int64_t>1 << order
        self.where[zone][frame] = <uint16_t>(1 + cpu * z.design.npcp + index)
        if pcp_excess(z, pcp, order) and z.below_high and zone_watermark_ok(
                z, 0, z.wmark[WMARK_HIGH] + z.boost, 3, 0):
            set_below_high(z, False)

    cdef void on_drain(self, uint32_t pfn, int order, int cpu, int ft) noexcept nogil:
        cdef zone_t *z = self.zone_with(pfn, order)
        cdef uint32_t frame
        cdef int zone, number
        cdef pcp_t *pcp
        self.end_refill(cpu)
        if z == NULL:
            return
        zone = self.index_of_zone(z)
        frame = pfn - <uint32_t>z.base_pfn
        z.diff = &z.diffs[cpu]
        self.drained += 1
        number = self.where[zone][frame] - 1
        if number >= 0 and z.state[frame] == <uint8_t>(PCP | order):
            pcp = &z.pcps[number // z.design.npcp]
            self.answer(DRAIN_PAGE, pcp.lists[number % z.design.npcp].tail[0] == frame)
            off_list(z, self.where[zone], frame)
        else:
            self.answer(DRAIN_PAGE, False)
            self.ghosts += 1
            take_out(z, self.where[zone], frame, order)
            break_up(z, frame, order)
            memset(&z.state[frame], TAIL, 1u << order)
        believed(z, frame, ft)
        self.shown[zone][block_of(z, frame)] = True
        free_to_buddy(z, frame, order)

    # ------------------------------------------------------------ what was seen

    def one_step(self):
        """How often the model decided as the kernel did: question -> [hits, times asked]."""
        cdef int i
        return {name: [int(self.hits[i]), int(self.asked[i])] for i, name in enumerate(QUESTION_NAMES)}

    def free(self, int zone):
        """Free blocks by order, int64[max_order + 1]."""
        return self.typed(zone).sum(axis=0)

    def typed(self, int zone):
        """Free blocks by freetype and order, as `typed_free`."""
        return typed_free(self.machine, zone)

    def verify(self):
        """Walks everything, as ``Machine.verify``: None, or the first broken invariant in words.

        A block that waits for its alloc event counts as one that is held.
        """
        cdef int zone
        for zone in range(self.mm.nzones):
            said = listed_elsewhere(self.mm.zones[zone], self.where[zone])
            if said is not None:
                return said
        for zone in range(self.mm.nzones):
            change_kind(self.mm.zones[zone], TAKEN, QUEUED)     # design linux has no queue
        said = self.machine.verify()
        for zone in range(self.mm.nzones):
            change_kind(self.mm.zones[zone], QUEUED, TAKEN)
        return said

    def refuted_types(self, int zone):
        """uint8[pageblocks]: bit per freetype that a block cannot have had at the start."""
        cdef zone_t *z = self.machine._zone(zone)
        cdef uint32_t b
        out = np.zeros(z.nblocks - z.first_block, np.uint8)
        cdef uint8_t[::1] view = out
        for b in range(z.first_block, z.nblocks):
            view[b - z.first_block] = self.refuted[zone][b]
        return out
