"""Random walks, beyond the depth that every sequence of was tried.

For other compiled modules only.
"""
