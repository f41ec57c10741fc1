"""Compaction: a run, when it is finished, and who starts one.

For other compiled modules only.
"""
