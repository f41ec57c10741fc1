"""The auditor's search: breadth first over all states of a small zone, then seeded random walks from its end.

States are kept packed for the level being expanded and the next one only; of older ones their hash (128 bits,
up to the engine's symmetries) and the step that led to them.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

cimport cython

import numpy as np

from asi_pa.audit.check cimport check_step, check_whole
from asi_pa.audit.hash cimport canonical_hash, hash_t, plain_hash
from asi_pa.audit.state cimport (
    MAX_BLOCKS,
    MAX_FRAMES,
    MAX_SEARCH_CPUS,
    extra_t,
    fingerprint,
    home_move,
    home_return,
    load_image,
    pack,
    packed_size,
    present_frames,
    same_image,
    save_image,
    set_present_frames,
    unpack,
)
from asi_pa.audit.step cimport (
    MAX_OPS,
    MAX_REQUESTS,
    MAX_SIBLINGS,
    found_t,
    list_allocations,
    list_operations,
    masks_t,
    node_t,
    op_t,
    remember,
    run_step,
    search_t,
    settle,
    siblings_t,
    step_t,
    table_t,
    take_masks,
)
from asi_pa._core cimport MIGRATE_CMA, big_alloc, zone_t
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport decode_request
from asi_pa.physmap.physmap cimport physmap_t
from asi_pa.verify.codes cimport OP_ALLOC, OP_CONTIG

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *) noexcept nogil

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *when)
    int CLOCK_MONOTONIC
    int CLOCK_THREAD_CPUTIME_ID

#: One step as NumPy sees it: the operation, and the other CPU's in a window of it.
STEP_DTYPE = np.dtype([(part + name, "u1") for part in ("", "inner_")
                       for name in ("code", "cpu", "order", "which", "frame", "n", "at", "pad")])


cdef double seconds_now(int clock=CLOCK_MONOTONIC) noexcept nogil:
    cdef timespec when
    clock_gettime(clock, &when)
    return <double>when.tv_sec + when.tv_nsec * 1e-9


# ---------------------------------------------------------------- the set of states met

cdef bint table_grow(table_t *t) noexcept nogil:
    cdef uint64_t room = t.room * 2 if t.room else 1 << 12, i, at
    cdef hash_t *slots = <hash_t *>big_alloc(room * sizeof(hash_t))
    if slots == NULL:
        return False
    memset(slots, 0, room * sizeof(hash_t))
    for i in range(t.room):
        if t.slots[i].a:
            at = t.slots[i].a & (room - 1)
            while slots[at].a:
                at = (at + 1) & (room - 1)
            slots[at] = t.slots[i]
    free(t.slots)
    t.slots = slots
    t.room = room
    return True


cdef int table_add(table_t *t, hash_t h) noexcept nogil:
    # 1: it is new, 0: it was there, -1: no memory.
    cdef uint64_t at
    if t.used * 2 >= t.room and not table_grow(t):
        return -1
    h.a |= 1
    at = h.a & (t.room - 1)
    while t.slots[at].a:
        if t.slots[at].a == h.a and t.slots[at].b == h.b:
            return 0
        at = (at + 1) & (t.room - 1)
    t.slots[at] = h
    t.used += 1
    return 1


cdef bint keep_state(search_t *s, uint64_t parent, const step_t *step, uint8_t *image) noexcept nogil:
    # The zone's present state becomes one of the next level, when it is new.  False: no memory.  Its image is
    # saved, unless NULL, while the table's slot comes from memory.
    cdef void *more
    cdef uint64_t room
    cdef int new
    cdef hash_t h = canonical_hash(s.z, &s.x) if s.symmetry else plain_hash(s.z, &s.x)
    if image != NULL:
        if s.met.room:
            prefetch(&s.met.slots[(h.a | 1) & (s.met.room - 1)])
        save_image(&s.home, s.z, image)
    new = table_add(&s.met, h)
    if new <= 0:
        return new == 0
    if not check_whole(s, step):
        return True
    if not s.symmetry and table_add(&s.orbits, canonical_hash(s.z, &s.x)) < 0:
        return False
    if s.nnodes == s.room:
        room = s.room * 2 if s.room else 1 << 12
        more = realloc(s.nodes, room * sizeof(node_t))
        if more == NULL:
            return False
        s.nodes = <node_t *>more
        s.room = room
    if s.next_n == s.next_room:
        room = s.next_room * 2 if s.next_room else 1 << 12
        more = realloc(s.next, room * s.size)
        if more == NULL:
            return False
        s.next = <uint8_t *>more
        s.next_room = room
    s.nodes[s.nnodes].parent = <uint32_t>parent
    s.nodes[s.nnodes].step = step[0]
    s.nnodes += 1
    pack(s.z, &s.x, s.next + s.next_n * s.size)
    s.next_n += 1
    return True


# ---------------------------------------------------------------- breadth first

# Many operations change nothing, and several kinds of request lead to the same state.  What is known of a
# state, byte for byte that of the parent or of another child, is not found out anew: its sets of frames, and
# that it was looked up.

cdef inline bint same_extra(const extra_t *a, const extra_t *b) noexcept nogil:
    return (a.freed == b.freed and a.unflushed == b.unflushed and a.shrunk == b.shrunk and a.due == b.due
            and memcmp(a.why, b.why, sizeof(a.why)) == 0)


cdef inline bint is_parent(const search_t *s, uint64_t present) noexcept nogil:
    return same_image(&s.home, s.z, s.parent) and (s.z.design.tracks or s.before.present == present)


cdef int find_sibling(search_t *s, uint64_t present) noexcept nogil:
    # The number of the zone's state among the siblings; it joins them if there is room, but for its image;
    # -1: there is none.
    cdef siblings_t *o = &s.siblings
    cdef uint64_t mark = fingerprint(&s.home)
    cdef int at = <int>(mark >> 56), k
    while o.slots[at]:
        k = o.slots[at] - 1
        if (o.prints[k] == mark and same_image(&s.home, s.z, o.images + k * s.home.image)
                and (s.z.design.tracks or o.masks[k].present == present)):
            return k
        at = (at + 1) & 255
    if o.n == MAX_SIBLINGS:
        return -1
    k = o.n
    o.n += 1
    o.slots[at] = <uint8_t>(k + 1)
    o.prints[k] = mark
    o.kept[k] = False
    take_masks(s, &o.masks[k])
    return k


cdef bint try_step(search_t *s, const step_t *step) noexcept nogil:
    # One transition out of s.parent; the windows it had are in s.seen.  False: no memory.
    cdef siblings_t *o = &s.siblings
    cdef masks_t masks
    cdef uint64_t present = 0
    cdef uint8_t *image = NULL
    cdef int k
    if s.moved:
        load_image(&s.home, s.z, s.parent)
        s.x = s.parent_extra
        if s.z.physmap != NULL:
            set_present_frames(s.z, s.before.present)
    run_step(s, step)
    s.transitions += 1
    if not s.z.design.tracks:
        present = present_frames(s.z)
    if is_parent(s, present):
        check_step(s, step, &s.before)
        s.moved = s.tree_differs or s.z.listed != NULL
        if same_extra(&s.x, &s.parent_extra):
            return True
        s.moved = True
        return keep_state(s, s.level_first + s.level_at, step, NULL)
    s.moved = True
    k = find_sibling(s, present)
    if k < 0:
        take_masks(s, &masks)
        check_step(s, step, &masks)
    else:
        check_step(s, step, &o.masks[k])
        if not o.kept[k]:
            image = o.images + k * s.home.image
        elif same_extra(&s.x, &o.extra[k]):
            return True
        o.kept[k] = True
        o.extra[k] = s.x
    return keep_state(s, s.level_first + s.level_at, step, image)


cdef bint expand_state(search_t *s) noexcept nogil:
    cdef op_t ops[MAX_OPS]
    cdef int n, i, k, w, windows
    cdef step_t step
    unpack(s.z, &s.x, s.level + s.level_at * s.size)
    settle(s)
    save_image(&s.home, s.z, s.parent)
    s.parent_extra = s.x
    s.moved = False
    s.siblings.n = 0
    memset(s.siblings.slots, 0, sizeof(s.siblings.slots))
    take_masks(s, &s.before)
    remember(s, &s.before)
    n = list_operations(s, ops)
    memset(&step, 0, sizeof(step_t))
    for i in range(n):
        step.op = ops[i]
        if not try_step(s, &step):
            return False
        windows = s.seen
        for w in range(1, windows + 1):
            for k in range(n):
                step.inner = ops[k]
                step.inner.at = <uint8_t>w
                if s.mm.ncpus > 1:
                    if s.z.pcps != NULL and step.inner.cpu == step.op.cpu:
                        continue
                    step.inner.cpu = 1 - step.op.cpu
                if not try_step(s, &step):
                    return False
        memset(&step.inner, 0, sizeof(op_t))
    return True


cdef int expand_level(search_t *s, uint64_t max_states, double until) noexcept nogil:
    # 0: the level is done; 1: the number of states; 2: the time; 3: memory.
    while s.level_at < s.level_n:
        if s.nnodes >= max_states:
            return 1
        if not s.level_at & 63 and seconds_now() > until:
            return 2
        if not expand_state(s):
            return 3
        s.level_at += 1
    return 0


# ---------------------------------------------------------------- random walks

cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    # splitmix64
    cdef uint64_t x
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    x = state[0]
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef void pick_operation(const op_t *ops, int n, uint64_t *random, op_t *out) noexcept nogil:
    # First the kind, then one of it: frees and rare operations have their turn.  Allocations count thrice.
    cdef int kinds[64]
    cdef int count[64]              # by code
    cdef int first[MAX_OPS]         # of a run of operations of one code
    cdef int nkinds = 0, runs = 0, i = 0, code, pick, here
    cdef uint64_t seen = 0
    while i < n:
        code = ops[i].code
        first[runs] = i
        runs += 1
        i += 1
        while i < n and ops[i].code == code:
            i += 1
        if seen >> code & 1:
            count[code] += i - first[runs - 1]
            continue
        seen |= <uint64_t>1 << code
        count[code] = i - first[runs - 1]
        kinds[nkinds] = code
        nkinds += 1
        if code == OP_ALLOC:
            kinds[nkinds] = code
            kinds[nkinds + 1] = code
            nkinds += 2
    code = kinds[next_random(random) % <uint64_t>nkinds]
    pick = <int>(next_random(random) % <uint64_t>count[code])
    for i in range(runs):
        if ops[first[i]].code != code:
            continue
        here = (first[i + 1] if i + 1 < runs else n) - first[i]
        if pick < here:
            out[0] = ops[first[i] + pick]
            return
        pick -= here


cdef int walk_once(search_t *s, const uint8_t *start, int length, uint64_t *random,
                   step_t *steps) noexcept nogil:
    # Returns the number of steps when the last one broke something new, else 0.  A step that changed no byte
    # is checked as any other, but the state needs no new look.
    cdef op_t ops[MAX_OPS]
    cdef int n = 0, i, had
    cdef bint same = False
    cdef masks_t after
    unpack(s.z, &s.x, start)
    settle(s)
    take_masks(s, &after)
    for i in range(length):
        if not same:
            save_image(&s.home, s.z, s.parent)
            remember(s, &after)
            n = list_operations(s, ops)
        s.old_freed = s.x.freed
        memset(&steps[i], 0, sizeof(step_t))
        pick_operation(ops, n, random, &steps[i].op)
        if s.windows and next_random(random) & 1:
            pick_operation(ops, n, random, &steps[i].inner)
            steps[i].inner.at = <uint8_t>(1 + next_random(random) % 3)
            if s.mm.ncpus > 1:
                steps[i].inner.cpu = 1 - steps[i].op.cpu
        had = s.nfound
        s.walked = i
        run_step(s, &steps[i])
        same = is_parent(s, 0 if s.z.design.tracks else present_frames(s.z)) and s.z.listed == NULL
        if not same:
            take_masks(s, &after)
        check_step(s, &steps[i], &after)
        s.transitions += 1
        if not same and not check_whole(s, &steps[i]):
            return i + 1 if s.nfound > had else 0
        if s.nfound > had:
            return i + 1
    return 0


# ---------------------------------------------------------------- Python's side

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
        False: symmetric states count as different ones; ``orbits`` counts them up to symmetry all the same.
    isolation, report, ticks, windows, liveness : bool
        Isolation of pageblocks; page reporting; decay of the pcp lists; another CPU in the windows where the
        zone lock is dropped; requests that fail beside usable memory.

    Raises ValueError for a machine that cannot be searched, MemoryError.
    """

    cdef search_t s
    cdef Machine machine
    cdef step_t *steps
    cdef uint8_t *root
    cdef physmap_t *physmap
    cdef readonly bint closed
    """Every reachable state was met."""
    cdef readonly double seconds
    """Of CPU time, so far."""
    cdef readonly str stopped
    """Why the search ended: "closed", "depth", "states", "seconds", "memory"."""

    MAX_WALK = 4096

    def __cinit__(self):
        memset(&self.s, 0, sizeof(search_t))

    def __init__(self, Machine machine not None, requests, contig=(None, None), *, bint isolation=True,
                 bint report=True, bint ticks=False, bint windows=False, bint liveness=True,
                 bint symmetry=True):
        cdef search_t *s = &self.s
        cdef zone_t *z
        cdef int i
        cdef uint32_t block
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
        if not 0 < len(requests) <= MAX_REQUESTS - 2:
            raise ValueError(f"{len(requests)} requests, 1..{MAX_REQUESTS - 2} are possible")
        self.machine = machine
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
        s.windows = windows
        s.liveness = liveness
        s.symmetry = symmetry
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
        if not keep_state(s, 0, &none, NULL):
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
            home_return(&self.s.home, self.s.z)
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
        return self.s.nnodes if self.s.symmetry else self.s.orbits.used

    @property
    def transitions(self):
        """Operations carried out and checked."""
        return self.s.transitions

    @property
    def state_bytes(self):
        """Bytes of a packed state."""
        return self.s.size

    def explore(self, int max_depth, uint64_t max_states, double seconds):
        """Expands levels until a limit; may be called again.  False when there is nothing left to expand."""
        cdef search_t *s = &self.s
        cdef double start = seconds_now(CLOCK_THREAD_CPUTIME_ID), until = seconds_now() + seconds
        cdef int why = 0
        while s.level_n and s.depth < max_depth:
            with nogil:
                why = expand_level(s, max_states, until)
            if why:
                break
            self._next_level()
        self.seconds += seconds_now(CLOCK_THREAD_CPUTIME_ID) - start
        self.closed = s.level_n == 0
        self.stopped = ("closed" if self.closed else
                        ("depth", "states", "seconds", "memory")[why])
        return not self.closed

    def walk(self, uint64_t seed, int length, double seconds, uint64_t walks=1 << 62):
        """Random walks of ``length`` steps, each from a random state of the last level, or the first state.

        Returns (number of finding, steps before the walk, the walk's steps) when one breaks something new,
        with steps as arrays of STEP_DTYPE; None when the time or the number of walks is over.
        """
        cdef search_t *s = &self.s
        cdef double start = seconds_now(CLOCK_THREAD_CPUTIME_ID), until = seconds_now() + seconds
        cdef uint64_t random = seed, at = 0
        cdef int n = 0, had = s.nfound
        cdef bint rooted = False
        if not 0 < length <= self.MAX_WALK:
            raise ValueError(f"a walk of {length} steps is not in 1..{self.MAX_WALK}")
        s.z.physmap = self.physmap
        with nogil:
            while walks > 0 and seconds_now() < until:
                walks -= 1
                rooted = s.level_n == 0 or next_random(&random) & 3 == 0
                if rooted:
                    n = walk_once(s, self.root, length, &random, self.steps)
                else:
                    at = next_random(&random) % s.level_n
                    n = walk_once(s, s.level + at * s.size, length, &random, self.steps)
                if n:
                    break
        s.walked = -1
        if s.z.design.tracks and not s.windows:
            s.z.physmap = NULL
        self.seconds += seconds_now(CLOCK_THREAD_CPUTIME_ID) - start
        if not n:
            return None
        return had, self._path(0 if rooted else s.level_first + at), self._steps(self.steps, n)

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
        cdef int i, k, had = s.nfound
        cdef masks_t after
        cdef step_t *step
        cdef step_t *made
        cdef bint whole
        if owners is not None:
            owner = np.ascontiguousarray(owners, np.int32)
        results = np.zeros(rows.shape[0], np.int64)
        cdef int64_t[::1] out = results
        pairs = []
        kept = [(<char *>&s.found[i])[:sizeof(found_t)] for i in range(had)]
        s.nfound = 0
        unpack(s.z, &s.x, self.root)
        settle(s)
        for i in range(rows.shape[0]):
            step = <step_t *>&rows[i, 0]
            k = owner[i, 0]
            if 0 <= k < i:
                made = <step_t *>&rows[k, 0]
                if made.op.code == OP_ALLOC and out[k] >= 0:
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
        for i in range(had):
            memcpy(&s.found[i], <const char *>kept[i], sizeof(found_t))
        s.nfound = had
        return pairs, results

    def findings(self):
        """[(invariant, mechanism, frame, steps)], steps of STEP_DTYPE or None where a walk found it."""
        cdef search_t *s = &self.s
        cdef int i
        out = []
        for i in range(s.nfound):
            steps = None
            if s.found[i].walked < 0:
                steps = np.concatenate([self._path(s.found[i].parent), self._steps(&s.found[i].step, 1)])
            out.append((s.found[i].invariant, s.found[i].mechanism, s.found[i].frame, steps))
        return out

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
