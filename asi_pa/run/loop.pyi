"""Runs operations; for other compiled modules only."""
