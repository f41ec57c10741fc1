"""What is done to the two page-table trees of a physmap: C functions for the engine, no Python in them.

For other compiled modules only.
"""
