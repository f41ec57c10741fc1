"""A hash of a small zone's state up to the symmetries of the engine.

For other compiled modules only.
"""
