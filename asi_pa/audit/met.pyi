"""The set of the states that a search met, as hashes of 128 bits.

For other compiled modules only.
"""
