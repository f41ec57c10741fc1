"""States of a small zone for the auditor's search: copies as they lie in memory, and a packed form.

For other compiled modules only.
"""
