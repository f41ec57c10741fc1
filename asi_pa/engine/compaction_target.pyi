"""Compaction's free scanner: free blocks taken off the lists as targets.

For other compiled modules only.
"""
