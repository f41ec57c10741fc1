"""Per-CPU page lists: refill, bulk free and the tuning of ``high``, ``alloc_factor``, ``free_count``.

For other compiled modules only.
"""
