"""Breadth first: every operation of every state of a level, one after the other or in batches side by side.

States are kept packed for the level being expanded and the next one only; of older ones their hash (128 bits,
up to the engine's symmetries) and the step that led to them.  A batch is what some of a level's states lead
to; merged in the order of these states, batches leave a search as it would be without them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from asi_pa.audit.check cimport check_step, found_lost
from asi_pa.audit.hash cimport canonical_hash, plain_hash
from asi_pa.audit.met cimport (
    MET_BROKEN,
    MET_NO_ROOM,
    MET_NOT,
    MET_SOUND,
    hash_t,
    table_add,
    table_break,
    table_fetch,
    table_find,
)
from asi_pa.audit.state cimport (
    extra_t,
    fingerprint,
    load_image,
    pack,
    present_frames,
    same_image,
    save_image,
    set_present_frames,
    unpack,
)
from asi_pa.audit.step cimport (
    MAX_FOUND,
    MAX_OPS,
    MAX_SIBLINGS,
    batch_t,
    candidate_t,
    found_t,
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
    take_masks,
)
from asi_pa.engine.check cimport zone_verify

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *when)
    int CLOCK_THREAD_CPUTIME_ID


cdef double cpu_seconds() noexcept nogil:
    # Of this thread.
    cdef timespec when
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &when)
    return <double>when.tv_sec + when.tv_nsec * 1e-9


# ---------------------------------------------------------------- states that are new

cdef bint more_room(void **array, uint64_t n, uint64_t *room, size_t size) noexcept nogil:
    # One more of `n` elements fits; False: no memory.
    cdef uint64_t wanted = room[0] * 2 if room[0] else 1 << 12
    cdef void *more
    if n < room[0]:
        return True
    more = realloc(array[0], wanted * size)
    if more == NULL:
        return False
    array[0] = more
    room[0] = wanted
    return True


cdef bint new_node(search_t *s, const step_t *step) noexcept nogil:
    # A state of the next level joins those met, its packed form is to be written behind `next`.
    if not more_room(<void **>&s.nodes, s.nnodes, &s.room, sizeof(node_t)):
        return False
    if not more_room(<void **>&s.next, s.next_n, &s.next_room, s.size):
        return False
    s.nodes[s.nnodes].parent = s.parent_node
    s.nodes[s.nnodes].step = step[0]
    s.nnodes += 1
    s.next_n += 1
    return True


cdef bint keep_candidate(search_t *s, const step_t *step, hash_t h) noexcept nogil:
    # As keep_state(), while the set of states met stands still.
    cdef batch_t *b = s.batch
    cdef candidate_t *c
    cdef uint64_t where = 0, room = b.room
    cdef int known = table_find(s.frozen, h)
    s.broken = known == MET_BROKEN
    if known == MET_SOUND:
        return True
    known = table_add(&b.own, h)
    if known == MET_SOUND or known == MET_NO_ROOM:
        return known == MET_SOUND
    if not more_room(<void **>&b.candidates, b.n, &b.room, sizeof(candidate_t)):
        return False
    if not more_room(<void **>&b.states, b.n, &room, s.size):
        return False
    s.broken = zone_verify(s.z, &where) != NULL
    if s.broken:
        table_break(&b.own, h)
    c = &b.candidates[b.n]
    c.hash = h
    c.step = step[0]
    c.window = <uint8_t>s.inner_window
    c.broken = s.broken
    c.lost = <uint32_t>where
    if not s.broken:
        pack(s.z, &s.x, b.states + b.n * s.size)
    b.n += 1
    return True


cdef bint keep_state(search_t *s, const step_t *step, uint8_t *image) noexcept nogil:
    # The zone's present state becomes one of the next level, when it is new; s.broken says whether lists,
    # counters and states disagree in it, which is a finding, however it is met.  False: no memory.  Its image
    # is saved, unless NULL, while the table's slot comes from memory.
    cdef uint64_t where = 0
    cdef int known
    cdef hash_t h = canonical_hash(s.z, &s.x) if s.symmetry else plain_hash(s.z, &s.x)
    if image != NULL:
        table_fetch(s.frozen, h)
        save_image(&s.home, s.z, image)
    if s.batch != NULL:
        return keep_candidate(s, step, h)
    known = table_add(&s.met, h)
    s.broken = known == MET_BROKEN
    if known == MET_SOUND or known == MET_NO_ROOM:
        return known == MET_SOUND
    if zone_verify(s.z, &where) != NULL:
        s.broken = True
        table_break(&s.met, h)
        found_lost(s, step, <uint32_t>where)
        return True
    if s.counts_orbits and table_add(&s.orbits, canonical_hash(s.z, &s.x)) == MET_NO_ROOM:
        return False
    if not new_node(s, step):
        return False
    pack(s.z, &s.x, s.next + (s.next_n - 1) * s.size)
    return True


# ---------------------------------------------------------------- one state

# Many operations change nothing, and several kinds of request lead to the same state.  What is known of a
# state, byte for byte that of the parent or of another child, is not found out anew: its sets of frames, and
# that it was looked up.

cdef inline bint same_extra(const extra_t *a, const extra_t *b) noexcept nogil:
    return (a.freed == b.freed and a.unflushed == b.unflushed and a.shrunk == b.shrunk and a.due == b.due
            and memcmp(a.why, b.why, sizeof(a.why)) == 0)


cdef bint is_parent(const search_t *s, uint64_t present) noexcept nogil:
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
        s.moved = s.tree_differs
        if same_extra(&s.x, &s.parent_extra):
            return True
        s.moved = True
        return keep_state(s, step, NULL)
    s.moved = True
    k = find_sibling(s, present)
    if k < 0:
        take_masks(s, &masks)
        check_step(s, step, &masks)
    else:
        check_step(s, step, &o.masks[k])
        if not o.kept[k]:
            image = o.images + k * s.home.image
        elif not o.broken[k] and same_extra(&s.x, &o.extra[k]):
            return True
        o.kept[k] = True
        o.extra[k] = s.x
    if not keep_state(s, step, image):
        return False
    if k >= 0:
        o.broken[k] = s.broken
    return True


cdef bint expand_state(search_t *s, const uint8_t *packed) noexcept nogil:
    # That of s.parent_node.  False: no memory.
    cdef op_t ops[MAX_OPS]
    cdef int n, i, k, w, windows
    cdef step_t step
    unpack(s.z, &s.x, packed)
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


# ---------------------------------------------------------------- a level

cdef inline int limit_reached(const search_t *s, const limits_t *limits) noexcept nogil:
    if s.nnodes >= limits.states:
        return ENDED_STATES
    return ENDED_OPERATIONS if s.transitions >= limits.operations else ENDED_NOT


cdef int expand_level(search_t *s, const limits_t *limits) noexcept nogil:
    cdef double until = cpu_seconds() + limits.seconds
    cdef int why
    while s.level_at < s.level_n:
        why = limit_reached(s, limits)
        if why:
            return why
        if not s.level_at & 63 and cpu_seconds() > until:
            return ENDED_SECONDS
        s.parent_node = <uint32_t>(s.level_first + s.level_at)
        if not expand_state(s, s.level + s.level_at * s.size):
            return ENDED_MEMORY
        s.level_at += 1
    return ENDED_NOT


# ---------------------------------------------------------------- batches

cdef batch_t *batch_new(uint64_t states) noexcept nogil:
    # For so many states to expand; NULL: no memory.
    cdef batch_t *b = <batch_t *>calloc(1, sizeof(batch_t))
    if b == NULL:
        return NULL
    b.ends = <uint64_t *>calloc(states + 1, sizeof(uint64_t))
    b.transitions = <uint64_t *>calloc(states + 1, sizeof(uint64_t))
    if b.ends == NULL or b.transitions == NULL:
        batch_free(b)
        return NULL
    return b


cdef void batch_free(batch_t *b) noexcept nogil:
    if b == NULL:
        return
    free(b.own.slots)
    free(b.candidates)
    free(b.states)
    free(b.ends)
    free(b.transitions)
    free(b)


cdef int expand_batch(search_t *s, const search_t *of, uint64_t first, uint64_t n, batch_t *b) noexcept nogil:
    # States `first` and following of the level of `of`, by the zone of `s` (which may be the same): nothing
    # is changed that others read of it meanwhile.
    cdef uint64_t i, transitions = s.transitions
    cdef int why = ENDED_NOT
    s.batch = b
    s.frozen = &of.met
    s.nfound = 0
    for i in range(n):
        s.parent_node = <uint32_t>(of.level_first + first + i)
        s.transitions = 0
        if not expand_state(s, of.level + (first + i) * s.size):
            why = ENDED_MEMORY
            break
        b.ends[i] = b.n
        b.transitions[i] = s.transitions
        b.expanded += 1
    memcpy(b.found, s.found, s.nfound * sizeof(found_t))
    b.nfound = s.nfound
    s.batch = NULL
    s.frozen = &s.met
    s.transitions = transitions
    return why


cdef int merge_candidate(search_t *s, const candidate_t *c, const uint8_t *packed) noexcept nogil:
    cdef int known = table_add(&s.met, c.hash)
    if known == MET_NO_ROOM:
        return ENDED_MEMORY
    if c.broken:
        table_break(&s.met, c.hash)
        s.inner_window = c.window
        found_lost(s, &c.step, c.lost)
        return ENDED_NOT
    if known != MET_NOT:
        return ENDED_NOT
    if not new_node(s, &c.step):
        return ENDED_MEMORY
    memcpy(s.next + (s.next_n - 1) * s.size, packed, s.size)
    return ENDED_NOT


cdef int merge_batch(search_t *s, const batch_t *b, const limits_t *limits) noexcept nogil:
    # The batch of the states at s.level_at; up to the state before which a limit ends the search.
    cdef uint64_t i, k = 0
    cdef int why = ENDED_NOT, f
    for i in range(b.expanded):
        why = limit_reached(s, limits)
        if why:
            break
        s.parent_node = <uint32_t>(s.level_first + s.level_at)
        while k < b.ends[i]:
            if k + 8 < b.n:
                table_fetch(&s.met, b.candidates[k + 8].hash)
            why = merge_candidate(s, &b.candidates[k], b.states + k * s.size)
            if why:
                return why
            k += 1
        s.transitions += b.transitions[i]
        s.level_at += 1
    for f in range(b.nfound):
        if b.found[f].parent < s.level_first + s.level_at:
            add_finding(s, &b.found[f])
    return why


cdef void add_finding(search_t *s, const found_t *f) noexcept nogil:
    # The first of each pair is kept, by the order of states.
    cdef int i
    for i in range(s.nfound):
        if s.found[i].invariant == f.invariant and s.found[i].mechanism == f.mechanism:
            return
    if s.nfound < MAX_FOUND:
        s.found[s.nfound] = f[0]
        s.nfound += 1


cdef inline bint goes_before(const found_t *a, const found_t *b) noexcept nogil:
    if a.parent != b.parent:
        return a.parent < b.parent
    if a.invariant != b.invariant:
        return a.invariant < b.invariant
    return a.mechanism < b.mechanism


cdef void order_findings(search_t *s) noexcept nogil:
    # However they came: by the state that they were found in.
    cdef int i, k
    cdef found_t f
    for i in range(1, s.nfound):
        f = s.found[i]
        k = i
        while k > 0 and goes_before(&f, &s.found[k - 1]):
            s.found[k] = s.found[k - 1]
            k -= 1
        s.found[k] = f
    s.nexplored = s.nfound
