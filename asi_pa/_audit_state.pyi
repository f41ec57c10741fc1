"""States of a small zone for the auditor's search: copies, a packed form, a hash up to symmetry.

For other compiled modules only.
"""
