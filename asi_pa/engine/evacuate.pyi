"""Emptying a pageblock that is partly free, so that it can flip (Design.flip_free, Design.flip_used).

For other compiled modules only.
"""
