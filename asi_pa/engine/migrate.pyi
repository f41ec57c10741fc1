"""Migration: isolated folios to the free scanner's targets, in batches; large ones are split if need be.

For other compiled modules only.
"""
