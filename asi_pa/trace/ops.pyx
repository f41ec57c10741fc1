"""Operations: what the compiler makes of a trace, and what a replay runs; 8 bytes each.

``Op`` are the codes, ``OP`` is the dtype: op (an `Op`), order, cls (index into request classes), cpu, slot.
"""

from libc.stdint cimport int64_t

import numpy as np

OP = np.dtype([("op", "u1"), ("order", "u1"), ("cls", "u1"), ("cpu", "u1"), ("slot", "u4")])

cdef enum:
    CODES = 8
    CLASSES = 256
    ORDERS = 16


def count_kinds(ops):
    """How many operations of each kind: int64[code (`Op`), cls, order], of 8, 256 and 16.

    ops : `OP` array.  Raises ValueError for a code or an order beyond.
    """
    cdef const op_t[::1] view = np.ascontiguousarray(ops, OP).view(OP)
    cdef Py_ssize_t i
    cdef bint bad = False
    out = np.zeros((CODES, CLASSES, ORDERS), np.int64)
    cdef int64_t[:, :, ::1] counts = out
    with nogil:
        for i in range(view.shape[0]):
            if view[i].op >= CODES or view[i].order >= ORDERS:
                bad = True
                break
            counts[view[i].op, view[i].cls, view[i].order] += 1
    if bad:
        raise ValueError(f"operation {i}: no such code or order")
    return out
