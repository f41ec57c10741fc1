"""Any operation on any machine; for other compiled modules only."""
