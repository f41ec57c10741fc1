"""The auditor's search of one small machine, as Python calls it.

Breadth first over all states (``explore``), random walks from where that ended (``walk``), and the sequences
of both carried out again (``replay``).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport cython

import numpy as np

from asi_pa.audit.check cimport check_step, check_whole
from asi_pa.audit.explore cimport (
    ENDED_MEMORY,
    ENDED_NOT,
    ENDED_SECONDS,
    batch_free,
    batch_new,
    cpu_seconds,
    expand_batch,
    expand_level,
    keep_state,
    limits_t,
    merge_batch,
    order_findings,
)
from asi_pa.audit.state cimport (
    MAX_BLOCKS,
    MAX_FRAMES,
    MAX_SEARCH_CPUS,
    home_move,
    home_return,
    pack,
    packed_size,
    unpack,
)
from asi_pa.audit.step cimport (
    MAX_REQUESTS,
    MAX_SIBLINGS,
    batch_t,
    found_t,
    list_allocations,
    masks_t,
    remember,
    run_step,
    search_t,
    settle,
    step_t,
    take_masks,
)
from asi_pa.audit.walk cimport next_random, walk_once
from asi_pa._core cimport MIGRATE_CMA, zone_t
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport decode_request
from asi_pa.physmap.physmap cimport physmap_t
from asi_pa.verify.codes cimport OP_ALLOC, OP_CONTIG, OP_DIRECT_COMPACT

#: One step as NumPy sees it: the operation, and the other CPU's in a window of it.
STEP_DTYPE = np.dtype([(part + name, "u1") for part in ("", "inner_")
                       for name in ("code", "cpu", "order", "which", "frame", "n", "at", "pad")])
#: Why exploring ended, as ``explore.pxd`` numbers it.
_ENDED = ("depth", "states", "operations", "seconds", "memory")


@cython.no_gc_clear
cdef class Batch:
    """What a run of a level's states leads to: made by ``Search.collect``, taken by ``Search.merge``."""

    cdef batch_t *b
    cdef readonly double seconds
    """Of processor time, that it took."""

    def __init__(self):
        raise TypeError("a batch is made by Search.collect")

    def __dealloc__(self):
        batch_free(self.b)


cdef zone_t *searched_zone(Machine machine) except NULL:
    # The machine's zone; ValueError for a machine that cannot be searched.
    cdef zone_t *z
    if machine.mm.nzones != 1 or machine.mm.zones[0].base_pfn != 0 or machine.mm.zones[0].first != 0:
        raise ValueError("a searched machine has one zone, from pfn 0")
    z = machine.mm.zones[0]
    if z.nframes > MAX_FRAMES or z.nblocks > MAX_BLOCKS or z.max_order > 5:
        raise ValueError(f"a searched zone has at most {MAX_FRAMES} frames, {MAX_BLOCKS} blocks, order 5")
    if z.nframes & ((1u << z.max_order) - 1):
        raise ValueError("a searched zone is made of whole blocks of the largest order")
    if z.ncpus > MAX_SEARCH_CPUS:
        raise ValueError(f"a searched machine has at most {MAX_SEARCH_CPUS} CPUs")
    if z.stat_threshold:
        raise ValueError("a searched machine counts exactly: stat_threshold 0")
    if z.dirty == NULL or z.physmap == NULL:
        raise ValueError(f"design {machine.design.name!r} protects nothing, there is nothing to audit")
    return z


@cython.no_gc_clear
cdef class Search:
    """A search of one small machine.

    Parameters
    ----------
    machine : Machine
        One zone of at most 64 frames from pfn 0, exact counters (stat_threshold 0), at most two CPUs, a
        design that protects something.  The search takes it over: its state is undefined afterwards.
    requests : list of (gfp, lowest order, highest order)
        The allocations to try.
    contig : (gfp or None, gfp or None)
        Requesters of contiguous ranges.
    symmetry : bool
        False: symmetric states count as different ones.
    orbits : bool
        Count states up to symmetry all the same.
    compaction : bool
        compact_memory and direct compaction.  It compares addresses: only without symmetry.
    isolation, report, ticks, windows, liveness : bool
        Isolation of pageblocks; page reporting; decay of the pcp lists; another CPU in the windows where the
        zone lock is dropped; requests that fail beside usable memory.

    Raises ValueError for a machine that cannot be searched, MemoryError.
    """

    cdef search_t s
    cdef Machine machine
    cdef tuple zones                # the machine's: a cycle that is collected may lose them there before
    cdef step_t *steps
    cdef uint8_t *root
    cdef physmap_t *physmap
    cdef readonly bint closed
    """Every reachable state was met."""
    cdef readonly double seconds
    """Of processor time, so far."""
    cdef readonly str stopped
    """Why the search ended: "closed", "depth", "states", "operations", "seconds", "memory"."""

    MAX_WALK = 4096

    def __cinit__(self):
        memset(&self.s, 0, sizeof(search_t))

    def __init__(self, Machine machine not None, requests, contig=(None, None), *, bint isolation=True,
                 bint report=True, bint ticks=False, bint windows=False, bint liveness=True,
                 bint symmetry=True, bint orbits=False, bint compaction=False):
        cdef search_t *s = &self.s
        cdef zone_t *z
        cdef int i
        cdef uint32_t block
        z = searched_zone(machine)
        if compaction and symmetry:
            raise ValueError("compaction tells symmetric states apart")
        if not 0 < len(requests) <= MAX_REQUESTS - 2:
            raise ValueError(f"{len(requests)} requests, 1..{MAX_REQUESTS - 2} are possible")
        self.machine = machine
        self.zones = machine.zones
        machine.log_events()
        z.physmap.log.enabled = False
        s.mm = &machine.mm
        s.z = z
        for i, (gfp, low, high) in enumerate(requests):
            decode_request(s.mm, gfp, &s.requests[i])
            s.min_alloc_order[i] = low
            s.max_alloc_order[i] = min(high, z.max_order)
        s.nrequests = len(requests)
        list_allocations(s)
        for i in range(2):
            s.contig_requests[i] = -1
            if contig[i] is not None:
                s.contig_requests[i] = s.nrequests + i
                decode_request(s.mm, contig[i], &s.requests[s.nrequests + i])
        s.isolation = isolation
        s.contig = contig != (None, None)
        s.report = report
        s.ticks = ticks
        s.compaction = compaction
        s.windows = windows
        s.liveness = liveness
        s.symmetry = symmetry
        s.counts_orbits = orbits
        s.frozen = &s.met
        s.walked = -1
        self.physmap = z.physmap
        if z.design.tracks and not windows:
            # the block marks say it all, and faster; walks have the page tables beside them
            z.physmap = NULL
        for block in range(z.nblocks):
            if z.design.mt[z.pbbase[block]] == MIGRATE_CMA:
                s.cma_blocks |= 1u << block
        for order, types in machine.design.pcp_lists(z.pageblock_order):
            if z.pcps != NULL and len({machine.design.freetypes[t].mapped for t in types}) > 1:
                s.shared_orders |= 1u << <int>order
        s.size = packed_size(z)
        self.steps = <step_t *>malloc(self.MAX_WALK * sizeof(step_t))
        self.root = <uint8_t *>malloc(s.size)
        if self.steps == NULL or self.root == NULL or home_move(&s.home, z):
            raise MemoryError("no memory for a search")
        s.parent = <uint8_t *>malloc(s.home.image)
        s.siblings.images = <uint8_t *>malloc(MAX_SIBLINGS * s.home.image)
        if s.parent == NULL or s.siblings.images == NULL:
            raise MemoryError("no memory for a search")
        self._plant()

    cdef int _plant(self) except -1:
        # The first state.
        cdef search_t *s = &self.s
        cdef step_t none
        memset(&none, 0, sizeof(step_t))
        settle(s)
        pack(s.z, &s.x, self.root)
        if not keep_state(s, &none, NULL):
            raise MemoryError("no memory for a search")
        s.depth = -1
        self._next_level()
        return 0

    cdef void _next_level(self):
        cdef search_t *s = &self.s
        cdef uint8_t *old = s.level
        cdef uint64_t room = s.level_room
        s.level_first = s.nnodes - s.next_n
        s.level = s.next
        s.level_n = s.next_n
        s.level_room = s.next_room
        s.level_at = 0
        s.next = old
        s.next_n = 0
        s.next_room = room
        s.depth += 1

    def __dealloc__(self):
        if self.machine is not None:
            home_return(&self.s.home)
        free(self.s.parent)
        free(self.s.siblings.images)
        free(self.s.met.slots)
        free(self.s.orbits.slots)
        free(self.s.nodes)
        free(self.s.level)
        free(self.s.next)
        free(self.steps)
        free(self.root)

    @property
    def depth(self):
        """Every sequence of this many operations was tried."""
        return self.s.depth

    @property
    def states(self):
        """Distinct states met, up to symmetry."""
        return self.s.nnodes

    @property
    def orbits(self):
        """States up to symmetry, whatever the search took for different."""
        return self.s.orbits.used if self.s.counts_orbits else self.s.nnodes

    @property
    def transitions(self):
        """Operations carried out and checked."""
        return self.s.transitions

    @property
    def state_bytes(self):
        """Bytes of a packed state."""
        return self.s.size

    @property
    def frontier(self):
        """States of the present level that were not expanded yet."""
        return self.s.level_n - self.s.level_at

    def explore(self, int max_depth, uint64_t max_states, double seconds, uint64_t max_operations=1 << 62):
        """Expands levels until a limit; may be called again.  False when there is nothing left to expand.

        ``seconds`` are those of this thread's processor time from now on; the other limits count from the
        beginning, and are looked at before each state.
        """
        cdef search_t *s = &self.s
        cdef double start = cpu_seconds()
        cdef limits_t limits = limits_t(max_states, max_operations, seconds)
        cdef int why = ENDED_NOT
        while s.level_n and s.depth < max_depth:
            limits.seconds = start + seconds - cpu_seconds()
            with nogil:
                why = expand_level(s, &limits)
            if why:
                break
            self._next_level()
        order_findings(s)
        self.seconds += cpu_seconds() - start
        self.closed = s.level_n == 0
        self.stopped = "closed" if self.closed else _ENDED[why]
        return not self.closed

    def collect(self, Search of not None, uint64_t first, uint64_t n):
        """A Batch of states ``first`` to ``first + n`` of those that ``of`` has yet to expand.

        ``of`` searches the same machine, and may be this search; until its batches are merged it must not
        explore.  Several searches may collect for it at a time.
        """
        cdef Batch batch = Batch.__new__(Batch)
        cdef double start = cpu_seconds()
        cdef int why
        if self.s.size != of.s.size or of.s.counts_orbits:
            raise ValueError("a search collects for one of the same machine that counts no orbits")
        if first + n > of.frontier:
            raise ValueError(f"states {first}..{first + n} of {of.frontier}")
        batch.b = batch_new(n)
        if batch.b == NULL:
            raise MemoryError("no memory for a batch of states")
        kept = self._set_aside()
        with nogil:
            why = expand_batch(&self.s, &of.s, of.s.level_at + first, n, batch.b)
        self._put_back(kept)
        if why == ENDED_MEMORY:
            raise MemoryError("no memory for a batch of states")
        batch.seconds = cpu_seconds() - start
        return batch

    def merge(self, Batch batch not None, uint64_t max_states, uint64_t max_operations=1 << 62):
        """Takes over the batch of the level's next states; False where a limit ends the search before."""
        cdef search_t *s = &self.s
        cdef limits_t limits = limits_t(max_states, max_operations, 0)
        cdef double start = cpu_seconds()
        cdef int why
        if batch.b.expanded > s.level_n - s.level_at:
            raise ValueError(f"a batch of {batch.b.expanded} states, {s.level_n - s.level_at} are left")
        with nogil:
            why = merge_batch(s, batch.b, &limits)
        order_findings(s)
        self.seconds += cpu_seconds() - start + batch.seconds
        self.stopped = _ENDED[why if why else ENDED_SECONDS]
        return why == ENDED_NOT

    def walk(self, uint64_t seed, int length, uint64_t walks, Search of=None):
        """Random walks of ``length`` steps, each from a random state of the last level, or the first state.

        of : Search, optional
            The search of the same machine that was explored; None: this one.  It stays as it is, and several
            searches may walk for it at a time.

        Returns what they broke that ``of`` had not found: [(invariant, mechanism, frame, steps)], steps as
        STEP_DTYPE from the first state on, each pair once; the operations carried out; and seconds of
        processor time.
        """
        cdef search_t *s = &self.s
        cdef Search other = self if of is None else of
        cdef const search_t *o = &other.s
        cdef double start = cpu_seconds()
        cdef uint64_t random = seed, at = 0, transitions = s.transitions
        cdef int i, n = 0, before = o.nexplored
        cdef bint rooted = False
        if not 0 < length <= self.MAX_WALK:
            raise ValueError(f"a walk of {length} steps is not in 1..{self.MAX_WALK}")
        if s.size != o.size:
            raise ValueError("a search walks for one of the same machine")
        kept = self._set_aside()
        for i in range(before):
            s.found[i] = o.found[i]
        s.nfound = before
        s.z.physmap = self.physmap
        found = []
        while walks > 0:
            with nogil:
                while walks > 0:
                    walks -= 1
                    rooted = o.level_n == 0 or next_random(&random) & 3 == 0
                    if rooted:
                        n = walk_once(s, self.root, length, &random, self.steps)
                    else:
                        at = next_random(&random) % o.level_n
                        n = walk_once(s, o.level + at * s.size, length, &random, self.steps)
                    if n:
                        break
            if n:
                path = other._path(0 if rooted else o.level_first + at)
                steps = np.concatenate([path, self._steps(self.steps, n)])
                found += [(s.found[i].invariant, s.found[i].mechanism, s.found[i].frame, steps)
                          for i in range(before, s.nfound)]
                before = s.nfound
        s.walked = -1
        if s.z.design.tracks and not s.windows:
            s.z.physmap = NULL
        self._put_back(kept)
        walked = s.transitions - transitions
        s.transitions = transitions
        return found, walked, cpu_seconds() - start

    def replay(self, steps, owners=None):
        """Carries out steps (STEP_DTYPE) from the first state.

        owners : int (n, 2), optional
            For each step the one that allocated what it frees, and the offset in that; -1: none.  The
            frame that is freed follows the allocation, and ``steps`` (contiguous) is brought up to date.

        Returns what they break, [(invariant, mechanism, step)], and their results, int64.  The findings of
        the search stay as they are.
        """
        cdef search_t *s = &self.s
        if s.z == NULL:
            raise RuntimeError("Search.__init__ was not called")
        flat = np.ascontiguousarray(steps).view(np.uint8)
        cdef uint8_t[:, ::1] rows = flat.reshape(-1, sizeof(step_t))
        cdef int32_t[:, ::1] owner = np.full((len(rows), 2), -1, np.int32)
        cdef int i, k
        cdef masks_t after
        cdef step_t *step
        cdef step_t *made
        cdef bint whole
        if owners is not None:
            owner = np.ascontiguousarray(owners, np.int32)
        results = np.zeros(rows.shape[0], np.int64)
        cdef int64_t[::1] out = results
        pairs = []
        kept = self._set_aside()
        s.nfound = 0
        unpack(s.z, &s.x, self.root)
        settle(s)
        for i in range(rows.shape[0]):
            step = <step_t *>&rows[i, 0]
            k = owner[i, 0]
            if 0 <= k < i:
                made = <step_t *>&rows[k, 0]
                if made.op.code in (OP_ALLOC, OP_DIRECT_COMPACT) and out[k] >= 0:
                    step.op.frame = <uint8_t>(out[k] + owner[i, 1])
                elif made.op.code == OP_CONTIG:
                    step.op.frame = <uint8_t>(made.op.frame + owner[i, 1])
            take_masks(s, &after)
            remember(s, &after)
            run_step(s, step)
            take_masks(s, &after)
            check_step(s, step, &after)
            whole = check_whole(s, step)
            out[i] = s.result
            while len(pairs) < s.nfound:
                pairs.append((s.found[len(pairs)].invariant, s.found[len(pairs)].mechanism, i))
            if not whole:
                break
        self._put_back(kept)
        return pairs, results

    def findings(self):
        """[(invariant, mechanism, frame, steps)] of what exploring broke, steps of STEP_DTYPE."""
        cdef search_t *s = &self.s
        cdef int i
        return [(s.found[i].invariant, s.found[i].mechanism, s.found[i].frame,
                 np.concatenate([self._path(s.found[i].parent), self._steps(&s.found[i].step, 1)]))
                for i in range(s.nfound)]

    cdef bytes _set_aside(self):
        # What was found so far.
        return (<char *>self.s.found)[:self.s.nfound * sizeof(found_t)]

    cdef void _put_back(self, bytes kept):
        memcpy(self.s.found, <const char *>kept, len(kept))
        self.s.nfound = <int>(len(kept) // sizeof(found_t))

    cdef object _steps(self, const step_t *steps, int n):
        out = np.zeros(n, STEP_DTYPE)
        cdef uint8_t[::1] view = out.view(np.uint8)
        if n:
            memcpy(&view[0], steps, n * sizeof(step_t))
        return out

    cdef object _path(self, uint64_t node):
        parts = []
        while node:
            parts.append(self._steps(&self.s.nodes[node].step, 1))
            node = self.s.nodes[node].parent
        return np.concatenate(parts[::-1]) if parts else np.zeros(0, STEP_DTYPE)
