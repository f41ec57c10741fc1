"""The engine's twin in plain Python: the executable form of the rules, written for reading.

Start with ``machine``, then ``page_alloc``, ``fallback`` and ``buddy``; ``pcp`` and ``isolation``
stand on their own.  ``replay`` checks it, or the engine, against a recorded run of a real kernel.
"""

from .machine import Machine

__all__ = ["Machine"]
