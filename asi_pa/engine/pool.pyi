"""Designs that wrap the allocator: per-page mapping, RFCv2's free queue, the separate pool of 2023.

For other compiled modules only.
"""
