"""The replay: compiled operations through a machine, without Python and without the GIL.

    ops      op order cls cpu slot   8 bytes an operation (``asi_pa.trace.ops.OP``)
    slots    slot -> pfn             filled by ALLOC, emptied by FREE
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from functools import lru_cache

import numpy as np

from asi_pa.kernel.callers import fallback_of, is_huge, way_out
from asi_pa.trace.ops import OP
from asi_pa._core cimport (
    ALLOC,
    HOLE,
    INFO_MT,
    KIND_MASK,
    MAX_ZONE_INDEX,
    MAX_ORDERS,
    MIGRATE_RECLAIMABLE,
    NIL,
    ORDER_MASK,
    TAIL,
    WMARK_HIGH,
    big_alloc,
    block_of,
    blocks_on,
    fallback_t,
    first_of,
    free_one,
    request_t,
    set_plenty,
    zone_t,
    zone_watermark_ok,
)
from asi_pa.engine.fill cimport copy_zone, fill_pcp
from asi_pa.engine.machine cimport NOT_MADE, Machine
from asi_pa.engine.compaction cimport alloc_pages_direct_compact, compact_node, kcompactd_do_work
from asi_pa.engine.migrate cimport lru_add_drain
from asi_pa.engine.page_alloc cimport decode_request, decode_request_on, mm_t, zone_of
from asi_pa.physmap.physmap cimport physmap_reset_counters
from asi_pa.engine.pool cimport pool_pages
from asi_pa.engine.kswapd cimport KSWAPD_EVERY
from asi_pa.engine.vmscan cimport direct_relief, reclaim
from asi_pa.run.loop cimport MAX_CLASSES, WAYS, run_ops, run_t
from asi_pa.run.populate cimport (
    count_kinds,
    fill_held,
    fill_lists,
    free_misplaced,
    soil,
    start_t,
    type_blocks,
)
from asi_pa.trace.ops cimport OP_ALLOC, op_t

cdef enum:
    MOST_FALLBACKS = 4096       # of one operation


@lru_cache(maxsize=4096)
def _meaning(word):
    """By order: the way out and whether it is huge (WAYS), and the mask of the pages asked for instead."""
    ways = [2 * way_out(word, order) + is_huge(order) for order in range(MAX_ORDERS)]
    return ways, [fallback_of(word, order) if order else None for order in range(MAX_ORDERS)]


cdef class Replay:
    """A compiled trace on a machine, whose requests that may block drain and use reserves before they fail.

    Parameters
    ----------
    machine : Machine
    classes : uint32 request words, indexed by an operation's ``cls``
    nslots : number of slots
    fallbacks : where a try of a known caller fails, the single pages follow that it would ask for, and
        go when it is freed (``asi_pa.run.fallback``)
    """

    cdef readonly Machine machine
    cdef run_t r
    # the classes as each node's CPUs mean them; NULL: every node means the same
    cdef request_t *by_node
    cdef int nclasses
    cdef public object displaced
    cdef public list extfrags
    cdef object supply
    cdef uint64_t supply_begins     # the sum of where each node's part does
    cdef object since
    cdef object pages

    def __cinit__(self):
        self.machine = NOT_MADE
        self.r.mm = &self.machine.mm

    def __init__(self, Machine machine not None, classes, nslots, bint fallbacks=True):
        if len(classes) > MAX_CLASSES:
            raise ValueError(f"{len(classes)} request classes, at most {MAX_CLASSES} are possible")
        if not 0 <= nslots < 2**32:
            raise ValueError(f"nslots {nslots} is not in 0..2**32 - 1")
        self.machine = machine
        self.r.mm = &machine.mm
        machine.mm.relief = direct_relief
        self.nclasses = len(classes)
        self._decode([int(word) for word in classes], fallbacks)
        self.r.replays_tries = fallbacks
        memset(self.r.tried, 0xFF, sizeof(self.r.tried))
        self.r.nslots = nslots
        self.r.slots = <uint32_t *>big_alloc((nslots + 1) * sizeof(uint32_t))
        self.r.kswapd_every = KSWAPD_EVERY
        self.r.in_pages = <uint8_t *>calloc((nslots >> 3) + 1, 1)
        if self.r.slots == NULL or self.r.in_pages == NULL:
            raise MemoryError(f"no memory for {nslots} slots")
        memset(self.r.slots, 0xFF, (nslots + 1) * sizeof(uint32_t))
        if machine.mm.zones[0].evacuate != NULL:
            machine.mm.slots = self.r.slots     # a page that moves has a slot to tell
        self.displaced = []
        self.extfrags = []

    def __dealloc__(self):
        free(self.r.slots)
        free(self.r.in_pages)
        free(self.by_node)

    def _decode(self, words, bint fallbacks):
        """What each class means to the allocator, and to its caller when it fails (kernel/callers.py)."""
        cdef int i, order
        instead = list(words)
        for i, word in enumerate(words):
            ways, pages = _meaning(word)
            for order in range(MAX_ORDERS):
                self.r.way[i][order] = ways[order]
                if fallbacks and pages[order] is not None:
                    # a caller's page is the same whatever the order of its try was
                    instead[i] = pages[order]
                    self.r.falls_back[i] |= 1u << order
            self.r.way_of_fallback[i] = 2 * way_out(instead[i], 0)
            decode_request(&self.machine.mm, words[i], &self.r.requests[i])
            decode_request(&self.machine.mm, instead[i], &self.r.fallbacks[i])
        self._decode_by_node(words, instead)

    def _decode_by_node(self, words, instead):
        # ALLOC_NOFRAGMENT depends on the node that a request prefers (alloc_flags_nofragment)
        cdef mm_t *mm = &self.machine.mm
        cdef request_t *rq
        cdef int node, i, n = self.nclasses
        cdef bint differs = False
        self.by_node = <request_t *>calloc(2 * mm.nnodes * n + 1, sizeof(request_t))
        if self.by_node == NULL:
            raise MemoryError("no memory for requests")
        for node in range(mm.nnodes):
            rq = &self.by_node[2 * node * n]
            for i in range(n):
                decode_request_on(mm, node, words[i], &rq[i])
                decode_request_on(mm, node, instead[i], &rq[n + i])
                differs = differs or (rq[i].fast_flags != self.r.requests[i].fast_flags
                                      or rq[i].slow_flags != self.r.requests[i].slow_flags)
        if not differs:
            free(self.by_node)
            self.by_node = NULL

    @property
    def nslots(self):
        return self.r.nslots

    @property
    def done(self):
        """Operations of the last run."""
        return self.r.done

    @property
    def allocations(self):
        return self.r.allocations

    @property
    def failures(self):
        return self.r.failures

    @property
    def skipped(self):
        """Frees and splits of what was never allocated."""
        return self.r.skipped

    def held(self, uint64_t slot):
        """The pfn of the allocation in a slot, -1 where there is none.  ValueError for no such slot."""
        if slot >= self.r.nslots:
            raise ValueError(f"slot {slot} is not below {self.r.nslots}")
        return -1 if self.r.slots[slot] == NIL else self.r.slots[slot]

    # ------------------------------------------------------------ running

    def run(self, ops, Py_ssize_t start=0, end=None):
        """Runs operations [start, end) of an `OP` array.

        An allocation that fails leaves its slot empty; the operations that would free it are skipped.
        Raises ValueError, naming the operation, for one that cannot be: an unknown code, cpu, order or slot,
        a free of another order than was allocated.
        """
        cdef const op_t[::1] view = np.ascontiguousarray(ops, OP).view(OP)
        cdef Py_ssize_t stop = len(ops) if end is None else min(end, len(ops)), bad
        self.machine._made("Replay")
        if start < 0 or start >= stop:
            return
        with nogil:
            if self.by_node == NULL:
                bad = run_ops(&self.r, &view[0], start, stop)
            else:
                bad = self._run_by_node(&view[0], start, stop)
        self.machine.raise_hook_error()
        if bad >= 0:
            op = view[bad]
            raise ValueError(f"operation {bad} (op {op.op}, order {op.order}, class {op.cls}, cpu {op.cpu}, "
                             f"slot {op.slot}) cannot be: see docs/use/traces.md")

    cdef Py_ssize_t _run_by_node(self, const op_t *ops, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        # Operations of one node's CPUs at a time.
        cdef mm_t *mm = &self.machine.mm
        cdef Py_ssize_t at = start, bad
        cdef const request_t *rq
        cdef int node
        while start < end:
            node = mm.cpu_node[ops[start].cpu if ops[start].cpu < mm.ncpus else 0]
            while at < end and mm.cpu_node[ops[at].cpu if ops[at].cpu < mm.ncpus else 0] == node:
                at += 1
            rq = &self.by_node[2 * node * self.nclasses]
            memcpy(self.r.requests, rq, self.nclasses * sizeof(request_t))
            memcpy(self.r.fallbacks, &rq[self.nclasses], self.nclasses * sizeof(request_t))
            bad = run_ops(&self.r, ops, start, at)
            if bad >= 0:
                return bad
            start = at
        return -1

    def run_and_see(self, ops, Py_ssize_t start=0, end=None):
        """``run``, and the pfn that each ALLOC of the range got: int64[allocations], -1 where it failed.

        Fallbacks to other types are appended to ``extfrags`` as (operation, order, fallback order, freetype,
        fallback freetype).
        """
        cdef const op_t[::1] view = np.ascontiguousarray(ops, OP).view(OP)
        cdef Py_ssize_t stop = len(ops) if end is None else min(end, len(ops)), i, n = 0, bad = -1
        cdef fallback_t log[MOST_FALLBACKS]
        cdef zone_t *z
        cdef int k
        cdef size_t seen
        got = np.empty(max(stop - start, 0), np.int64)
        cdef int64_t[::1] pfns = got
        for k in range(self.r.mm.nzones):
            z = self.r.mm.zones[k]
            z.fallbacks = log
            z.fallbacks_room = MOST_FALLBACKS
            z.nfallbacks = 0
        for i in range(start, stop):
            if self.by_node == NULL:
                bad = run_ops(&self.r, &view[0], i, i + 1)
            else:
                bad = self._run_by_node(&view[0], i, i + 1)
            if bad >= 0:
                break
            if view[i].op == OP_ALLOC:
                pfns[n] = -1 if self.r.slots[view[i].slot] == NIL else self.r.slots[view[i].slot]
                n += 1
                for k in range(self.r.mm.nzones):
                    z = self.r.mm.zones[k]
                    if z.nfallbacks:
                        for seen in range(z.nfallbacks):
                            self.extfrags.append((i, log[seen].order, log[seen].fallback_order,
                                                  log[seen].ft, log[seen].fallback_ft))
                        z.nfallbacks = 0
        for k in range(self.r.mm.nzones):
            self.r.mm.zones[k].fallbacks = NULL
        if bad >= 0:
            self.run(ops, bad, bad + 1)     # which names it
        self.machine.raise_hook_error()
        return got[:n]

    def take_over(self, Machine other not None, slots):
        """Starts from another machine's state, of the same shape and design.

        slots : uint32[nslots] pfn of the allocation in each slot, 2^32 - 1 for none
            An allocation that is free on the other machine, or on a list there, is left out.
        """
        cdef const uint32_t[::1] pfns = np.ascontiguousarray(slots, np.uint32)
        cdef int k
        cdef uint64_t i
        cdef zone_t *z
        cdef uint8_t kind
        if <uint64_t>pfns.shape[0] != self.r.nslots or other.mm.nzones != self.r.mm.nzones:
            raise ValueError(f"{len(slots)} slots and {other.mm.nzones} zones for a replay with "
                             f"{self.r.nslots} and {self.r.mm.nzones}")
        for k in range(other.mm.nzones):
            copy_zone(self.r.mm.zones[k], other.mm.zones[k])
        for i in range(self.r.nslots):
            self.r.slots[i] = NIL
            if pfns[i] == NIL:
                continue
            z = zone_of(self.r.mm, pfns[i])
            if z == NULL:
                continue
            kind = z.state[pfns[i] - <uint32_t>z.base_pfn] & KIND_MASK
            if kind == ALLOC:
                self.r.slots[i] = pfns[i]
                z.links[pfns[i] - <uint32_t>z.base_pfn].prev = <uint32_t>i
        self._reset()

    def relieve(self, supply, bint compacts=True, since=None, pages=None, *, nodes=None,
                int kswapd_every=KSWAPD_EVERY):
        """Lets kswapd and requests that may block reclaim, and these compact, too (``asi_pa.engine.vmscan``).

        To be called before anything runs: an allocation that compaction moves must have a slot to tell.

        supply : uint32 slots whose allocations reclaim may free (page cache), in that order
        since : uint64, after how many operations each of them is there, ascending; None: all from the start
        pages : how many each of them has; None: one
        nodes : the node whose LRU each of them is on; needed where the machine has several
        kswapd_every : operations between two chances of kswapd to run once it was woken
        """
        cdef mm_t *mm = &self.machine.mm
        if self.r.done:
            raise ValueError(f"relief cannot begin after {self.r.done} operations")
        if kswapd_every < 1:
            raise ValueError(f"kswapd_every {kswapd_every} is not at least 1")
        self.r.kswapd_every = kswapd_every
        self.supply = np.ascontiguousarray(supply, np.uint32)
        if len(self.supply) and self.supply.max() >= self.r.nslots:
            raise ValueError(f"slot {self.supply.max()} of the supply is not below {self.r.nslots}")
        self.since = np.ascontiguousarray(() if since is None else since, np.uint64)
        late = self.since.view(np.int64)
        if since is not None and (len(late) != len(self.supply) or (np.diff(late) < 0).any()):
            raise ValueError("since: a number for each slot of the supply, ascending")
        if pages is not None and len(pages) != len(self.supply):
            raise ValueError("pages: a number for each slot of the supply")
        pages = self._by_node(pages, nodes)
        self.pages = np.zeros(0 if pages is None else len(self.supply) + 1, np.uint64)
        if pages is not None:
            self.pages[1:] = np.cumsum(pages)
        cdef const uint64_t[::1] totals = self.pages
        mm.supply_pages = <uint64_t *>&totals[0] if len(self.pages) else NULL
        cdef const uint32_t[::1] view = self.supply
        cdef const uint64_t[::1] times = self.since
        mm.supply_since = <uint64_t *>&times[0] if len(self.since) else NULL
        mm.slots = self.r.slots
        mm.supply = <uint32_t *>&view[0] if len(self.supply) else NULL
        mm.compacts = compacts

    cdef object _by_node(self, object pages, object nodes):
        # Sorts the supply by node, each node's part in the order given; the same of `pages`.
        cdef mm_t *mm = &self.machine.mm
        cdef int nid
        ends = [len(self.supply)]
        if mm.nnodes > 1:
            if nodes is None or len(nodes) != len(self.supply):
                raise ValueError("nodes: a number for each slot of the supply, on a machine of several nodes")
            rows = np.argsort(nodes, kind="stable")
            ends = np.searchsorted(np.asarray(nodes)[rows], np.arange(mm.nnodes), side="right")
            self.supply = self.supply[rows]
            self.since = self.since[rows] if len(self.since) else self.since
            pages = None if pages is None else np.asarray(pages)[rows]
        self.supply_begins = 0
        for nid in range(mm.nnodes):
            mm.supply_at[nid] = 0 if nid == 0 else mm.supply_end[nid - 1]
            mm.supply_end[nid] = ends[nid]
            self.supply_begins += mm.supply_at[nid]
        return pages

    @property
    def supply_used(self):
        """Slots of the supply that were asked for their pages: with none its order plays no part."""
        cdef int nid
        cdef uint64_t at = 0
        for nid in range(self.machine.mm.nnodes):
            at += self.machine.mm.supply_at[nid]
        return at - self.supply_begins

    def compact_node(self, int nid=0, bint proactive=False):
        """compact_node(): what /proc/sys/vm/compact_memory does, or kcompactd of itself (proactive)."""
        compact_node(&self.machine.mm, 0, nid, proactive)
        lru_add_drain(&self.machine.mm)

    def kcompactd(self, int order, int nid=0):
        """kcompactd_do_work(): woken for a block of this order."""
        self.machine._check_order(order)
        kcompactd_do_work(&self.machine.mm, 0, nid, order, MAX_ZONE_INDEX - 1)
        lru_add_drain(&self.machine.mm)

    def direct_compact(self, int order, int cls, uint32_t slot, int priority):
        """__alloc_pages_direct_compact() of one request: (compact_result, pfn or -1); it fills the slot.

        priority: 0 full, 1 light, 2 async.  ``relieve`` must have been called.
        """
        cdef int status
        cdef int64_t pfn
        cdef const request_t *rq
        cdef zone_t *z
        self.machine._check_order(order)
        if not 0 <= cls < self.nclasses or slot >= self.r.nslots or not 0 <= priority <= 2:
            raise ValueError(f"class {cls}, slot {slot}, priority {priority}: one of them is out of range")
        if self.machine.mm.slots == NULL:
            raise ValueError("direct_compact before relieve: nobody could be told where pages went")
        rq = &self.r.requests[cls]
        pfn = alloc_pages_direct_compact(&self.machine.mm, 0, order, rq, rq.slow_flags, priority, &status)
        lru_add_drain(&self.machine.mm)
        if pfn >= 0:
            z = zone_of(&self.machine.mm, pfn)
            z.links[pfn - <int64_t>z.base_pfn].prev = slot
            self.r.slots[slot] = <uint32_t>pfn
        return status, pfn

    # ------------------------------------------------------------ the initial state

    def populate(self, int zone, population):
        """Loads a zone's initial state (``asi_pa.trace.Population``) into a machine made with ``boot=False``.

        For a design that maps by pageblock, a block is on the side that most of its held pages want (a tie or
        an empty block: as at boot); pages of the other are left out here and allocated anew by
        ``place_displaced``, as are the pages that a pool would have served.  Returns counts of blocks
        (``blocks``, ``mapped_blocks``, ``mixed_blocks``) and of allocations (``displaced``).
        """
        cdef zone_t *z = self.machine._zone(zone)
        cdef const uint32_t[::1] held = np.ascontiguousarray(population.held_pfn, np.uint32)
        cdef const uint8_t[::1] held_order = np.ascontiguousarray(population.held_order, np.uint8)
        cdef const uint8_t[::1] held_cls = np.ascontiguousarray(population.held_cls, np.uint8)
        cdef const uint32_t[::1] held_slot = np.ascontiguousarray(population.held_slot, np.uint32)
        cdef const uint32_t[::1] free_pfn = np.ascontiguousarray(population.free_pfn, np.uint32)
        cdef const uint8_t[::1] free_order = np.ascontiguousarray(population.free_order, np.uint8)
        cdef const uint8_t[::1] block_mt = np.ascontiguousarray(population.block_mt, np.uint8)
        cdef uint32_t[:, ::1] kinds = np.zeros((z.nblocks + 1, 2), np.uint32)
        misplaced_array = np.zeros(held.shape[0] + 1, np.uint8)
        cdef uint8_t[::1] misplaced = misplaced_array
        cdef start_t start
        cdef int i
        self._check(z, held, held_order, "held allocation")
        self._check(z, free_pfn, free_order, "free block")
        self._check_start(z, held_slot, held_cls, block_mt)
        memset(&start, 0, sizeof(start))
        start.held, start.free = held.shape[0], free_pfn.shape[0]
        if start.held:
            start.held_pfn, start.held_order = &held[0], &held_order[0]
            start.held_cls, start.held_slot = &held_cls[0], &held_slot[0]
        if start.free:
            start.free_pfn, start.free_order = &free_pfn[0], &free_order[0]
        start.kinds, start.misplaced = &kinds[0, 0], &misplaced[0]
        if block_mt.shape[0]:
            start.block_mt = &block_mt[0]
        with nogil:
            count_kinds(z, &self.r, &start)
            type_blocks(z, &self.r, &start)
            soil(z, &self.r)
            fill_lists(z, &start)
        self._fill_pcp(z, population)
        with nogil:
            fill_held(z, &self.r, &start)
            free_misplaced(z, &start)
        if start.left:
            moved = np.flatnonzero(misplaced_array[:start.held])
            redo = np.zeros(len(moved), OP)
            redo["op"] = OP_ALLOC
            redo["order"] = population.held_order[moved]
            redo["cls"] = population.held_cls[moved]
            redo["slot"] = population.held_slot[moved]
            redo["cpu"] = self._cpu_near(z.nid)
            self.displaced.append(redo)
        for i in range(z.ncpus):
            z.nr_free += z.diffs[i].free
            z.diffs[i].free = 0
        self._reset()
        return {"blocks": z.nblocks - z.first_block, "mapped_blocks": start.mapped_blocks,
                "mixed_blocks": start.mixed_blocks, "displaced": start.left}

    cdef int _check_start(self, zone_t *z, const uint32_t[::1] slots, const uint8_t[::1] classes,
                          const uint8_t[::1] block_mt) except -1:
        cdef Py_ssize_t i
        if block_mt.shape[0] < z.nblocks - z.first_block:
            raise ValueError(f"{block_mt.shape[0]} block types for {z.nblocks - z.first_block} pageblocks")
        if slots.shape[0] != classes.shape[0]:
            raise ValueError(f"{slots.shape[0]} slots but {classes.shape[0]} classes of held allocations")
        for i in range(slots.shape[0]):
            if slots[i] >= self.r.nslots:
                raise ValueError(f"slot {slots[i]} of a held allocation is not below {self.r.nslots}")
            if classes[i] >= self.nclasses:
                raise ValueError(f"class {classes[i]} of a held allocation is not below {self.nclasses}")
        for i in range(<Py_ssize_t>(z.nblocks - z.first_block)):
            if block_mt[i] > MIGRATE_RECLAIMABLE:
                raise ValueError(f"block type {block_mt[i]} of an initial state is not one of 0, 1, 2")
        return 0

    cdef int _fill_pcp(self, zone_t *z, object population) except -1:
        # Pages on per-CPU lists; free in the buddy where the machine's design keeps no such list.
        cdef const uint32_t[::1] pfn = np.ascontiguousarray(population.pcp_pfn, np.uint32)
        cdef const uint8_t[::1] orders = np.ascontiguousarray(population.pcp_order, np.uint8)
        cdef const uint8_t[::1] mt = np.ascontiguousarray(population.pcp_mt, np.uint8)
        cdef const uint8_t[::1] cpu = np.ascontiguousarray(population.pcp_cpu, np.uint8)
        cdef Py_ssize_t i
        cdef uint32_t frame
        self._check(z, pfn, orders, "page on a per-CPU list")
        for i in range(pfn.shape[0]):
            if mt[i] > MIGRATE_RECLAIMABLE:
                raise ValueError(f"type {mt[i]} of a per-CPU list is not one of 0, 1, 2")
            frame = <uint32_t>(pfn[i] - z.base_pfn)
            if not fill_pcp(z, cpu[i], frame, orders[i], mt[i]):
                memset(&z.state[frame], TAIL, 1u << orders[i])
                free_one(z, frame, orders[i], z.pbtype[block_of(z, frame)], True)
        return 0

    cdef int _cpu_near(self, int nid) noexcept nogil:
        # the first CPU of a node, or of all where it has none
        cdef int i
        for i in range(self.r.mm.ncpus):
            if self.r.mm.cpu_node[i] == nid:
                return i
        return 0

    def place_displaced(self):
        """Allocates what ``populate`` left out; the number of allocations that found no place."""
        lost = 0
        for redo in self.displaced:
            before = self.failures
            self.run(redo)
            lost += self.failures - before
        self.displaced = []
        self._reset()
        return lost

    def settle(self):
        """Brings every zone above its high watermark, as kswapd would have before the trace began.

        Without that a design that displaces pages starts with memory that was reclaimed for them, others with
        none.  What the supply cannot give is not there.  Nothing of it is counted.
        """
        cdef mm_t *mm = &self.machine.mm
        cdef int i
        cdef zone_t *z
        with nogil:
            for i in range(mm.nzones):
                z = mm.zones[i]
                z.boost = 0
                set_plenty(z)
                while not zone_watermark_ok(z, 0, z.wmark[WMARK_HIGH], z.zone_idx, 0):
                    if not reclaim(mm, self._cpu_near(z.nid), z.nid, 32):
                        break
        self._reset()

    def _reset(self):
        # counting starts with the trace
        memset(&self.machine.mm.stats, 0, sizeof(self.machine.mm.stats))
        memset(self.machine.mm.numa, 0, sizeof(self.machine.mm.numa))
        for zone in range(self.machine.mm.nzones):
            self.machine.mm.zones[zone].flips_s2n = self.machine.mm.zones[zone].flips_n2s = 0
        memset(self.r.failed_by_class, 0, sizeof(self.r.failed_by_class))
        memset(self.r.failed_by_way, 0, sizeof(self.r.failed_by_way))
        memset(self.r.replayed_by_class, 0, sizeof(self.r.replayed_by_class))
        self.r.fallbacks_replayed = self.r.fallbacks_failed = self.r.fallback_pages = self.r.dropped = 0
        self.r.allocations = self.r.failures = self.r.skipped = self.r.done = self.r.clock = 0
        if self.machine.mm.physmap != NULL:
            physmap_reset_counters(self.machine.mm.physmap)

    cdef int _check(self, zone_t *z, const uint32_t[::1] pfns, const uint8_t[::1] orders, str what) except -1:
        cdef Py_ssize_t i
        cdef uint64_t first = z.base_pfn + z.first, end = z.base_pfn + z.nframes
        if pfns.shape[0] != orders.shape[0]:
            raise ValueError(f"{pfns.shape[0]} pfns but {orders.shape[0]} orders of {what}s")
        for i in range(pfns.shape[0]):
            if orders[i] > z.max_order or pfns[i] < first or pfns[i] + (<uint64_t>1 << orders[i]) > end:
                raise ValueError(f"{what} at pfn {pfns[i]}, order {orders[i]}, does not fit the zone")
        return 0

    # ------------------------------------------------------------ observing

    def failures_by_class(self):
        """uint64[256]: failed allocations by request class."""
        return np.array([self.r.failed_by_class[i] for i in range(MAX_CLASSES)], np.uint64)

    def failures_by_way_out(self):
        """uint64 (3, 2): failed requests by `WayOut`, and whether they were huge; replayed ones included."""
        cdef int i
        out = np.zeros(WAYS, np.uint64)
        for i in range(WAYS):
            out[i] = self.r.failed_by_way[i]
        return out.reshape(-1, 2)

    def replayed_by_class(self):
        """int64[256]: requests that callers made instead of a try, which the trace has not, by its class."""
        return np.array([self.r.replayed_by_class[i] for i in range(MAX_CLASSES)], np.int64)

    def fallbacks(self):
        """Tries that failed and were followed by pages; in how many a page failed; requests for pages."""
        return self.r.fallbacks_replayed, self.r.fallbacks_failed, self.r.fallback_pages

    @property
    def dropped(self):
        """Recorded requests for pages that were not made, because the try before them succeeded here."""
        return self.r.dropped

    @property
    def replays_tries(self):
        """Are tries that failed where they were recorded made (OP_TRY)?"""
        return bool(self.r.replays_tries)

    def free_pages(self):
        """Free pages by freetype, all zones, int64[nft]; the pool's as one more entry."""
        cdef mm_t *mm = &self.machine.mm
        cdef int i, ft, order
        out = np.zeros(mm.design.nft + 1, np.int64)
        cdef int64_t[::1] view = out
        for i in range(mm.nzones):
            for ft in range(mm.design.nft):
                for order in range(mm.zones[i].max_order + 1):
                    view[ft] += <int64_t>blocks_on(mm.zones[i], order, ft) << order
        view[mm.design.nft] = pool_pages(mm, -1)
        return out

    def counts_by_node(self):
        """By node: pages on free lists (free_pages) and in a pool (pool_pages), numa(), flips()."""
        cdef mm_t *mm = &self.machine.mm
        found = [{"free_pages": 0, "pool_pages": pool_pages(mm, nid), "flips_s2n": 0, "flips_n2s": 0, **more}
                 for nid, more in enumerate(self.machine.numa())]
        for zone, spec in enumerate(self.machine.spec.zones if found else ()):
            found[spec.nid]["free_pages"] += sum(
                int(blocks) << order for order, blocks in enumerate(self.free_blocks(zone)))
            for key, flips in self.machine.flips()[zone].items():
                found[spec.nid][key] += flips
        return found

    def free_blocks(self, int zone=0):
        """Free blocks by order, int64[max_order + 1], over all freetypes."""
        cdef zone_t *z = self.machine._zone(zone)
        cdef int ft, order
        out = np.zeros(z.max_order + 1, np.int64)
        for order in range(z.max_order + 1):
            for ft in range(self.machine.mm.design.nft):
                out[order] += blocks_on(z, order, ft)
        return out

    def block_kinds(self, int zone=0):
        """uint8[pageblocks]: freetype, + 0x40 if mapped in the protected tree, + 0x80 if wholly free."""
        cdef zone_t *z = self.machine._zone(zone)
        out = np.zeros(z.nblocks - z.first_block, np.uint8)
        cdef uint8_t[::1] view = out
        if view.shape[0]:
            fill_kinds(z, &view[0])
        return out

    def mixed_blocks(self, int zone=0):
        """(pageblocks with an allocated page of another migratetype than the block's, such pages)."""
        cdef zone_t *z = self.machine._zone(zone)
        cdef uint32_t frame = z.first, block = NIL, step, blocks = 0
        cdef uint64_t pages = 0
        cdef int kind
        with nogil:
            while frame < z.nframes:
                kind = z.state[frame] & KIND_MASK
                step = 1
                if kind != TAIL and kind != HOLE:
                    step = 1u << (z.state[frame] & ORDER_MASK)
                    if kind == ALLOC:
                        if (z.links[frame].next & INFO_MT) != z.design.mt[z.pbtype[block_of(z, frame)]]:
                            pages += step
                            if block_of(z, frame) != block:
                                block = block_of(z, frame)
                                blocks += 1
                frame += step
        return blocks, pages


cdef void fill_kinds(zone_t *z, uint8_t *kinds) noexcept nogil:
    cdef uint32_t b, frame
    cdef int ft, order
    for b in range(z.nblocks - z.first_block):
        kinds[b] = z.pbtype[z.first_block + b] | <uint8_t>(z.pbmapped[z.first_block + b] << 6)
    for order in range(z.pageblock_order, z.max_order + 1):
        for ft in range(z.design.nft):
            frame = first_of(z, order, ft)
            while frame < z.nframes:
                for b in range(block_of(z, frame), block_of(z, frame + (1u << order))):
                    kinds[b - z.first_block] |= 0x80
                frame = z.links[frame].next
