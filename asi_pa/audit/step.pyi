"""One step of the auditor: every operation a small zone can be asked for, and how each is carried out.

For other compiled modules only.
"""
