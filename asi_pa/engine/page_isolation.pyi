"""Isolation of pageblocks, contiguous ranges, and page reporting's take-and-put-back.

For other compiled modules only.
"""
