"""Kinds of operations, for loops over operations; for other compiled modules only."""
