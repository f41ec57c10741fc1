"""Codes of the operations of recorded runs."""
