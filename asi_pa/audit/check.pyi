"""What a step broke: invariants compared before and after it, mechanisms read from the event log.

For other compiled modules only.
"""
