"""Remapped pages: those whose mapping differs from all other memory's, in designs that map page by page.

For other compiled modules only.
"""
