"""Compiled only: from a machine's description to the engine's structures."""
