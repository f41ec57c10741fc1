"""Compiled only: a zone, walked."""
