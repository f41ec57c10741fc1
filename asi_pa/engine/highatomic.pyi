"""Compiled only: the HIGHATOMIC reserve."""
