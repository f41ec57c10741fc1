"""Compiled only: mapping and unmapping pageblocks."""
