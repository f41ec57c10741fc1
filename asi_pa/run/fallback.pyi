"""The caller's fallback, replayed.

For other compiled modules only.
"""
