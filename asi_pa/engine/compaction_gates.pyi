"""Compaction's gates: watermarks and fragmentation before a run, deferral, the skip bits.

For other compiled modules only.
"""
