"""Compiled only: pageblocks that change sides."""
