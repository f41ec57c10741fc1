# Operations of recorded runs, which the auditor's search does, too: their codes, here alone.
# docs/engine/model.md has their columns, verify/ops.py their names.
cpdef enum Code:
    OP_NOTHING = 0
    OP_ALLOC = 1
    OP_FREE = 2
    OP_DUMP = 5
    OP_DRAIN = 6
    OP_ISOLATE = 7
    OP_UNISOLATE = 8
    OP_CONTIG = 9
    OP_FREE_CONTIG = 10         # the auditor's; recorded runs free a contiguous range by OP_FREE
    OP_UNRESERVE = 11
    OP_TICK = 15
    OP_TAKE = 16
    OP_WORKER = 17
    OP_SHRINK = 18
    OP_COMPACT_NODE = 20        # from here on, those of compaction
    OP_COMPACT = 21
    OP_DIRECT_COMPACT = 22
    OP_RESET_SKIP = 23
    OP_KCOMPACTD = 24
