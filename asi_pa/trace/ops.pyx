"""Operations: what the compiler makes of a trace, and what a replay runs; 8 bytes each.

``Op`` are the codes, ``OP`` is the dtype: op (an `Op`), order, cls (index into request classes), cpu, slot.
"""

import numpy as np

OP = np.dtype([("op", "u1"), ("order", "u1"), ("cls", "u1"), ("cpu", "u1"), ("slot", "<u4")])
