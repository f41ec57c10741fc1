"""Free pages of an initial state, for other compiled modules only."""
