"""A zone's initial state, brought into a machine: for ``Replay.populate``."""
