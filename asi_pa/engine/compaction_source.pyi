"""Compaction's migration scanner: movable folios taken off the LRU, a batch at a time.

For other compiled modules only.
"""
