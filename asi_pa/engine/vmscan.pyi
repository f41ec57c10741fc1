"""What a request that may block does before it fails: drains, reclaim, compaction.  A model, not exact.

For other compiled modules only.
"""
