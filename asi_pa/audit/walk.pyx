"""Random walks, beyond the depth that every sequence of was tried."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from asi_pa.audit.check cimport check_step, check_whole
from asi_pa.audit.explore cimport is_parent
from asi_pa.audit.state cimport present_frames, save_image, unpack
from asi_pa.audit.step cimport (
    MAX_OPS,
    list_operations,
    masks_t,
    op_t,
    remember,
    run_step,
    search_t,
    settle,
    step_t,
    take_masks,
)
from asi_pa.verify.codes cimport OP_ALLOC


cdef uint64_t next_random(uint64_t *state) noexcept nogil:
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
        same = is_parent(s, 0 if s.z.design.tracks else present_frames(s.z))
        if not same:
            take_masks(s, &after)
        check_step(s, &steps[i], &after)
        s.transitions += 1
        if not same and not check_whole(s, &steps[i]):
            return i + 1 if s.nfound > had else 0
        if s.nfound > had:
            return i + 1
    return 0
