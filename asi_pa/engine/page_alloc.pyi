"""A request's way through zones, watermarks, lists and retries.

For other compiled modules only.
"""
