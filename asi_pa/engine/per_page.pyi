"""Per-page mapping: set_direct_map_invalid_noflush() and a flush for every page, as secretmem does today.

For other compiled modules only.
"""
