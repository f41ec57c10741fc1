"""Breadth first: every operation of every state of a level, one after the other or in batches.

For other compiled modules only.
"""
