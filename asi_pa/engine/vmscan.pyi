"""What relieves a shortage: kswapd, direct reclaim, compaction.  A model, not exact.

For other compiled modules only.
"""
